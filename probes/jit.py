"""The one door to numba: `kernel` compiles a function of scalars and arrays to machine code, cached on disk.

Kernels hold no Python objects and release the GIL. With `NUMBA_DISABLE_JIT=1` they run as plain Python (slowly), for debugging.

Code is made for one of two kinds of processors, not for the very one it runs on: for those of the last ten years it is as fast
(docs/performance.md), and it can be brought along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from probes.code_cache import QuickCache, processor
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
_LINE_BYTES = 64  # of a cache


_FOLDERS, _KEPT = code_folders()
if numba.config.CPU_NAME is None:  # type: ignore[attr-defined]  # made at run time from numba's settings
    numba.config.CPU_NAME, numba.config.CPU_FEATURES = processor(), ""  # type: ignore[attr-defined]


def _compiled(function: _Function, **options: object) -> _Function:
    dispatcher = cast("Any", numba.njit)(nogil=True, error_model="numpy", **options)(function)
    if dispatcher is not function:  # NUMBA_DISABLE_JIT leaves functions as they are
        dispatcher._cache = QuickCache(function, _FOLDERS, _KEPT)
    return cast("_Function", dispatcher)


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


if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # the same functions, as instructions

    def _address(context: Any, builder: Any, array: Any, value: Any, at: Any) -> Any:
        """The address of item `at` of an array."""
        return builder.gep(context.make_array(array)(context, builder, value).data, [at])

    def _word(bits: int, big: bool) -> Any:
        """A load of `bits` at any place: numba's indexing byte by byte is four loads, four comparisons and four shifts for 32 bits."""

        @intrinsic
        def load(_context: Any, data: Any, _at: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                address = _address(context, builder, signature.args[0], *arguments)
                number = context.get_value_type(getattr(types, f"uint{bits}"))
                word = builder.load(builder.bitcast(address, number.as_pointer()), align=1)
                if bits > 8 and big == (sys.byteorder == "little"):
                    word = builder.bswap(word)
                return word if bits == 64 else builder.zext(word, context.get_value_type(types.int64))

            return types.int64(data, types.int64), generate

        return load

    byte = _word(8, True)
    big16, big32, big64 = _word(16, True), _word(32, True), _word(64, True)
    little16, little32 = _word(16, False), _word(32, False)

    @intrinsic
    def copy(_context: Any, to: Any, _into: Any, source: Any, _first: Any, _count: Any) -> Any:
        """The same as memcpy(3): for some ten items, numba's loop over a slice takes three times as long."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            addresses = [_address(context, builder, signature.args[at], arguments[at], arguments[at + 1]) for at in (0, 2)]
            size = context.get_abi_sizeof(context.get_data_type(to.dtype))
            cast("Any", cgutils).raw_memcpy(builder, *addresses, arguments[4], size, align=size)
            return context.get_dummy_value()

        return types.void(to, types.int64, source, types.int64, types.int64), generate

    @intrinsic
    def prefetch(_context: Any, data: Any, _at: Any) -> Any:
        """LLVM's `llvm.prefetch`, for reading, into all caches (LLVM language reference)."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = builder.bitcast(_address(context, builder, signature.args[0], *arguments), ir.IntType(8).as_pointer())
            number = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
            function = cast("Any", cgutils).get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            builder.call(function, [address, number(0), number(3), number(1)])
            return context.get_dummy_value()

        return types.void(data, types.int64), generate

    @intrinsic
    def store_line(_context: Any, to: Any, _into: Any, source: Any, _first: Any) -> Any:
        """A store that is marked as non-temporal (LLVM language reference, `!nontemporal`)."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            line = ir.VectorType(ir.IntType(64), LINE_WORDS).as_pointer()
            into, read = (builder.bitcast(_address(context, builder, signature.args[at], *arguments[at : at + 2]), line) for at in (0, 2))
            store = builder.store(builder.load(read, align=8 * LINE_WORDS), into, align=8 * LINE_WORDS)
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            return context.get_dummy_value()

        return types.void(to, types.uintp, source, types.uintp), generate

    @intrinsic
    def move(_context: Any, to: Any, _into: Any, source: Any, _count: Any) -> Any:
        """Whole cache lines of `to` are written without being read first, and without taking others' place in the cache."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            byte, word, line = ir.IntType(8), ir.IntType(64), ir.VectorType(ir.IntType(64), _LINE_BYTES // 8)
            into = builder.bitcast(_address(context, builder, signature.args[0], *arguments[:2]), byte.as_pointer())
            out = builder.bitcast(context.make_array(signature.args[2])(context, builder, arguments[2]).data, byte.as_pointer())
            size = builder.mul(arguments[3], word(context.get_abi_sizeof(context.get_data_type(to.dtype))))
            ahead = builder.and_(builder.neg(builder.ptrtoint(into, word)), word(_LINE_BYTES - 1))
            ahead = builder.select(builder.icmp_unsigned("<", ahead, size), ahead, size)
            lines = builder.udiv(builder.sub(size, ahead), word(_LINE_BYTES))
            behind = builder.add(ahead, builder.mul(lines, word(_LINE_BYTES)))
            for begin, end in ((word(0), ahead), (behind, size)):
                places = [builder.gep(each, [begin]) for each in (into, out)]
                cast("Any", cgutils).raw_memcpy(builder, *places, builder.sub(end, begin), itemsize=1, align=1)
                cast("Any", cgutils).memset(builder, places[1], builder.sub(end, begin), 0)
            lines_into, lines_out = (builder.bitcast(builder.gep(each, [ahead]), line.as_pointer()) for each in (into, out))
            with cast("Any", cgutils).for_range(builder, lines) as loop:
                place = builder.gep(lines_out, [loop.index])
                kept = builder.store(builder.load(place, align=1), builder.gep(lines_into, [loop.index]), align=_LINE_BYTES)
                kept.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
                builder.store(ir.Constant(line, None), place, align=1)
            builder.fence("seq_cst")  # such stores keep no order by themselves
            return context.get_dummy_value()

        return types.void(to, types.int64, source, types.int64), generate
