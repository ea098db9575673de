"""The one door to numba: `kernel` compiles a function of scalars and arrays to machine code, cached on disk.

Kernels hold no Python objects and release the GIL. With `NUMBA_DISABLE_JIT=1` they run as plain Python (slowly), for debugging.

numba's cache notices a change in the file of a kernel, not in the files of the functions that the kernel calls: after an upgrade it would
run old code. So the cache has one folder per state of the sources.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from probes.schema import Array

_Function = TypeVar("_Function", bound=Callable[..., object])

# An unsigned byte as a signed 64-bit integer: a byte shifted left overflows in NumPy. Kernels annotate every integer as `int`: that is what
# it behaves like without numba, and numba does not read annotations.
wide = cast("Callable[[int], int]", np.int64)


def _cache_folder() -> Path | None:
    """Where compiled code of exactly these sources is kept: beside them, else in the user's cache; None where neither can be written."""
    here = Path(__file__).resolve().parent
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(path for package in (here, here.parent / "tracer") for path in package.rglob("*.py")):
        content = source.read_bytes()
        if (here in source.parents and here / "live" not in source.parents) or b"probes.jit" in content:
            digest.update(content)
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hopline"
    for parent in (here / "__pycache__", users):
        folder = parent / f"jit-{digest.hexdigest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


_CACHE = None if "NUMBA_CACHE_DIR" in os.environ else _cache_folder()
if _CACHE is not None:
    numba.config.CACHE_DIR = str(_CACHE)  # type: ignore[attr-defined]  # made at run time from numba's settings
_CACHED = _CACHE is not None or "NUMBA_CACHE_DIR" in os.environ


def kernel(function: _Function) -> _Function:
    """Compile `function` at its first call, or load it from the cache of an earlier run."""
    return cast("_Function", numba.njit(cache=_CACHED, nogil=True, error_model="numpy")(function))


def inlined(function: _Function) -> _Function:
    """Like `kernel`, for the small functions that kernels call in their innermost loops."""
    return cast("_Function", numba.njit(cache=_CACHED, nogil=True, error_model="numpy", inline="never")(function))


def copy(to: Array, into: int, source: Array, first: int, count: int) -> None:
    """`to[into : into + count] = source[first : first + count]`, for arrays of one type. Nothing checks bounds or overlap."""
    to[into : into + count] = source[first : first + count]


if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]

    @intrinsic
    def copy(_context: Any, to: Any, _into: Any, source: Any, _first: Any, _count: Any) -> Any:
        """The same as memcpy(3): for some ten items, numba's loop over a slice takes three times as long."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 2))
            places = [builder.gep(data, [arguments[at]]) for data, at in zip(arrays, (1, 3), strict=True)]
            size = context.get_abi_sizeof(context.get_data_type(to.dtype))
            cast("Any", cgutils).raw_memcpy(builder, *places, arguments[4], size, align=size)
            return context.get_dummy_value()

        return types.void(to, types.int64, source, types.int64, types.int64), generate
