"""The one door to numba: `kernel` compiles a function of scalars and arrays to machine code, cached on disk.

Kernels hold no Python objects and release the GIL. With `NUMBA_DISABLE_JIT=1` they run as plain Python (slowly), for debugging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., object])

# An unsigned byte as a signed 64-bit integer: a byte shifted left overflows in NumPy. Kernels annotate every integer as `int`: that is what
# it behaves like without numba, and numba does not read annotations.
wide = cast("Callable[[int], int]", np.int64)


def kernel(function: _Function) -> _Function:
    """Compile `function` at its first call, or load it from the cache of an earlier run."""
    return cast("_Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: _Function) -> _Function:
    """Like `kernel`, for the small functions that kernels call in their innermost loops."""
    return cast("_Function", numba.njit(cache=True, nogil=True, error_model="numpy", inline="never")(function))
