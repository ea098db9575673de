"""The one door to numba: it compiles the kernels of `probes.jit`, which imports this where no machine code is at hand."""

from __future__ import annotations

import sys
from typing import Any, cast

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import infer_global, make_intrinsic_template
from numba.extending import intrinsic, typeof_impl

from probes import code_ready, jit
from probes.code_cache import QuickCache
from probes.code_folders import code_folders

_LINE_BYTES = 64  # of a cache
_FOLDERS, _KEPT = code_folders()
if numba.config.CPU_NAME is None:  # type: ignore[attr-defined]  # made at run time from numba's settings
    numba.config.CPU_NAME, numba.config.CPU_FEATURES = code_ready.processor(), ""  # type: ignore[attr-defined]


@typeof_impl.register(jit.Kernel)
def _called_by_others(kernel: jit.Kernel, _context: Any) -> Any:
    """What a kernel is to the kernels that call it."""
    return numba.typeof(kernel.dispatcher)


def dispatcher(function: Any, options: dict[str, Any]) -> Any:
    """What numba makes of a kernel."""
    made = numba.njit(nogil=True, error_model="numpy", **options)(function)
    made._cache = QuickCache(function, _FOLDERS, _KEPT)
    return made


def _type_of(value: object) -> Any:
    """As numba's dispatcher sees it, for which integers of Python have 64 bits."""
    return types.int64 if type(value) is int else numba.typeof(value)


def compiled(kernel: jit.Kernel, kind: Any, arguments: tuple[Any, ...]) -> Any:
    """What to call for arguments of a kind, of which those are some. It is kept so that the next process needs no numba."""
    signature = tuple(map(_type_of, arguments))
    called = kernel.dispatcher.compile(signature)
    result = kernel.dispatcher.overloads[signature]
    if _KEPT is not None:
        parts = result._asdict()
        machine_code = parts["library"]._get_compiled_object()
        others = (*(parts["referenced_envs"] or ()), *result._find_referenced_environments())
        referenced = {each.env_name: each for each in (parts["environment"], *others)}
        environments = [(name, list(each.consts)) for name, each in referenced.items()]
        entry = result.fndesc.llvm_cpython_wrapper_name
        code_ready.keep(_KEPT, kernel.function, kind, code_ready.Code(code_ready.made_with(), machine_code, entry, environments))
    return called


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
        line = ir.VectorType(ir.IntType(64), jit.LINE_WORDS).as_pointer()
        into, read = (builder.bitcast(_address(context, builder, signature.args[at], *arguments[at : at + 2]), line) for at in (0, 2))
        store = builder.store(builder.load(read, align=8 * jit.LINE_WORDS), into, align=8 * jit.LINE_WORDS)
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


# In kernels, functions of `probes.jit` are the instructions of the same name.
for _name in ("byte", "big16", "big32", "big64", "little16", "little32", "copy", "prefetch", "store_line", "move"):
    _made = globals()[_name]
    infer_global(getattr(jit, _name), types.Function(make_intrinsic_template(_made, _made._defn, _name)))
