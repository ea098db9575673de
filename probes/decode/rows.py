"""Where decoding writes: a chunk's observations, column by column, in memory that stays in a core's cache."""

from __future__ import annotations

import mmap
from collections import namedtuple
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from probes.jit import Known
from probes.pages import pages
from probes.schema import OBSERVATIONS

if TYPE_CHECKING:
    from typing import Any

    Rows = Any
else:
    # for numba a tuple whose items have names; it takes `.view` for what arrays have
    _Rows = namedtuple("_Rows", ["kind_of_view" if column.name == "view" else column.name for column in OBSERVATIONS.columns])

    class Rows(Known, _Rows):
        """One array for each column of OBSERVATIONS."""


_LINE_BYTES = 64  # of a cache


def empty_rows(count: int) -> Rows:
    """Room for `count` rows, zeroed.

    Of each column only what is used takes memory. Each begins some cache lines further into its page than the one before: items of one row
    would otherwise all be in the same few places of a cache, which holds only so many there.
    """
    dtypes = [np.dtype(column.dtype) for column in OBSERVATIONS.columns]
    begins = list(accumulate((-(-count * each.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE + _LINE_BYTES for each in dtypes), initial=0))
    memory = pages(begins.pop())
    return Rows(*(np.frombuffer(memory, each, count, begin) for each, begin in zip(dtypes, begins, strict=True)))
