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

    Each column is memory of its own, of which only what is used is taken, and begins some cache lines further into its page than the one
    before: items of one row would otherwise all be in the same few places of a cache, which holds only so many there.
    """
    columns: list[Array] = []
    for number, column in enumerate(OBSERVATIONS.columns):
        ahead = number * _LINE_BYTES // np.dtype(column.dtype).itemsize
        columns.append(np.zeros(ahead + count, column.dtype)[ahead:])
    return Rows(*columns)
