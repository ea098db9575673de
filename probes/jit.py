"""`kernel` makes a function of scalars and arrays machine code, which is kept: numba is imported where there is none (probes.compiling).

Kernels hold no Python objects and release the GIL. With `NUMBA_DISABLE_JIT=1` they run as plain Python (slowly), for debugging.

Code is made for one of two kinds of processors, not for the very one it runs on: for those of the last ten years it is as fast
(docs/performance.md), and it can be brought along.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from types import NoneType
from typing import Any, TypeVar, cast

import numpy as np

from probes import code_ready
from probes.code_folders import code_folders
from probes.schema import Array

_Function = TypeVar("_Function", bound=Callable[..., object])

# An unsigned byte as a signed 64-bit integer: a byte shifted left overflows in NumPy. Kernels annotate every integer as `int`: that is what
# it behaves like without numba, and numba does not read annotations.
wide = cast("Callable[[int], int]", np.int64)
# An integer as an unsigned one of 64 bits, for kernels: the same cast as `wide`.
unsigned = cast("Callable[[int], int]", np.uint64)
# An index that is never negative: numba then does not ask whether it counts from the end.
place = cast("Callable[[int], int]", np.uintp)

_PLAIN = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
_LOADING = threading.RLock()
_NUMBERS = (int, float, np.generic, NoneType)
_FLAGS = 0x1 | 0x2 | 0x100 | 0x400  # of an array: contiguous, either way round; aligned; writeable (numpy/ndarraytypes.h)


class _Kind(tuple[Any, ...]):
    """A kind that is there once, so that it need not be compared part by part."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


_KINDS: dict[tuple[Any, ...], _Kind] = {}


class Known:
    """Beside `tuple`, what tuples are that kernels are given again and again: their arrays, which keep their types, are looked at once."""

    @functools.cached_property
    def kind(self) -> _Kind:
        """What `_kind` gives."""
        kind = type(self), tuple(map(_kind, cast("tuple[Any, ...]", self)))
        return _KINDS.setdefault(kind, _Kind(kind))


def _kind(value: Any) -> Any:
    """What code is compiled for, the same in every process."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.ndim, value.flags.num & _FLAGS
    if isinstance(value, Known):
        return value.kind
    if isinstance(value, tuple):
        return type(value), tuple(map(_kind, value))
    if isinstance(value, _NUMBERS):
        return type(value)
    raise TypeError(f"{type(value).__qualname__}: not an array nor a number, which is what kernels take")


class Kernel:
    """A function as machine code, which is found or made at the first call with arguments of a kind."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function, self._options = function, options
        self._code: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives. Arguments go by position: arrays, numbers, and tuples of them."""
        kind = tuple(map(_kind, arguments))
        code = self._code.get(kind)
        return (code or self._found(kind, arguments))(*arguments)

    def _found(self, kind: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        with _LOADING:
            if kind not in self._code:
                code = code_ready.load(self.function, kind, code_folders()[0])
                if code is None:
                    from probes import compiling  # noqa: PLC0415 - numba, which takes a third of starting

                    code = compiling.compiled(self, kind, arguments)
                self._code[kind] = code
            return self._code[kind]

    @functools.cached_property
    def dispatcher(self) -> Any:
        """numba's, which compiles this for arguments of any kind, or into other kernels."""
        from probes import compiling  # noqa: PLC0415 - see above

        return compiling.dispatcher(self.function, self._options)


def _compiled(function: _Function, **options: object) -> _Function:
    return function if _PLAIN else cast("_Function", Kernel(function, options))


def kernel(function: _Function) -> _Function:
    """Compile `function` at its first call, or load it from the cache of an earlier run."""
    return _compiled(function)


def inlined(function: _Function) -> _Function:
    """Like `kernel`, for the small functions that kernels call in their innermost loops."""
    return _compiled(function, inline="never")


def bare(function: _Function) -> _Function:
    """Like `kernel`, for functions that make no arrays: numba counts no references in them.

    Each count is an atomic operation, for every array at every call and return: two thirds of the time that decoding took.
    """
    return _compiled(function, _nrt=False)


def inside(function: _Function) -> _Function:
    """Like `bare`, for the small functions that those call: LLVM always puts their code in the caller's place."""
    return _compiled(function, _nrt=False, forceinline=True)


def byte(data: Array, at: int) -> int:
    """The byte of `data` (uint8) at `at`. Nothing checks bounds."""
    return wide(data[at])


def big16(data: Array, at: int) -> int:
    """Unsigned big-endian 16 bits, like `byte`."""
    return (wide(data[at]) << 8) | wide(data[at + 1])


def big32(data: Array, at: int) -> int:
    """Unsigned big-endian 32 bits, like `byte`."""
    return (big16(data, at) << 16) | big16(data, at + 2)


def big64(data: Array, at: int) -> int:
    """Unsigned big-endian 64 bits, like `byte` (may come out negative in a signed register: the bits are right)."""
    return (big32(data, at) << 32) | big32(data, at + 4)


def little16(data: Array, at: int) -> int:
    """Unsigned little-endian 16 bits, like `byte`."""
    return (wide(data[at + 1]) << 8) | wide(data[at])


def little32(data: Array, at: int) -> int:
    """Unsigned little-endian 32 bits, like `byte`."""
    return (little16(data, at + 2) << 16) | little16(data, at)


def move(to: Array, into: int, source: Array, count: int) -> None:
    """`to[into : into + count] = source[:count]`, for arrays of one type, and those are 0 then. Nothing checks bounds or overlap."""
    to[into : into + count] = source[:count]
    source[:count] = 0


def copy(to: Array, into: int, source: Array, first: int, count: int) -> None:
    """`to[into : into + count] = source[first : first + count]`, for arrays of one type. Nothing checks bounds or overlap."""
    to[into : into + count] = source[first : first + count]


def prefetch(data: Array, at: int) -> None:
    """Have the cache line of item `at` of `data` fetched, which is needed soon; `at` may be past the end."""


LINE_WORDS = 8  # 64-bit words of a cache line


def store_line(to: Array, into: int, source: Array, first: int) -> None:
    """`to[into : into + 8] = source[first : first + 8]` of 64-bit words, past the caches. Both must begin where a cache line does.

    Nothing is read from memory for it, as is for other stores; other threads see it once a lock was passed.
    """
    to[into : into + LINE_WORDS] = source[first : first + LINE_WORDS]
