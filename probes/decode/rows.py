"""Where decoding writes: a chunk's observations, column by column, in memory that stays in a core's cache."""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

import numpy as np

from probes.schema import OBSERVATIONS, Array

# One array for each column of OBSERVATIONS, which for numba is a tuple whose items have names; it takes `.view` for what arrays have.
if TYPE_CHECKING:
    from typing import Any

    Rows = Any
else:
    Rows = namedtuple("Rows", ["kind_of_view" if column.name == "view" else column.name for column in OBSERVATIONS.columns])

_LINE_BYTES = 64  # of a cache


def empty_rows(count: int) -> Rows:
    """Room for `count` rows, zeroed.

    The columns are as far apart as their sizes and some cache lines more, another number for each: items of one row would otherwise all
    be in the same few places of a cache, which holds only so many there.
    """
    sizes = [np.dtype(column.dtype).itemsize * count for column in OBSERVATIONS.columns]
    columns: list[Array] = []
    memory: Array = np.zeros(sum(sizes) + len(sizes) * len(sizes) * _LINE_BYTES, np.uint8)
    at = 0
    for number, (column, size) in enumerate(zip(OBSERVATIONS.columns, sizes, strict=True)):
        columns.append(memory[at : at + size].view(column.dtype))
        at += -(-size // _LINE_BYTES) * _LINE_BYTES + number * _LINE_BYTES
    return Rows(*columns)
