"""Machine code that runs without numba, whose import takes a third of starting: what a kernel compiled to, and how Python calls it.

LLVM links it, and three of numba's modules that are written in C have what it calls. They are loaded from their files: to import one from
its package is to import all of numba. Code of another numba, or none, is numba's matter (probes.compiling).
"""

from __future__ import annotations

import builtins
import ctypes
import functools
import hashlib
import importlib.util
import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, NamedTuple

from llvmlite import binding as llvm

ANY = "generic"  # every processor of the architecture
RECENT = "x86-64-v3"  # those with AVX2: Intel's since 2013, AMD's since 2015
# What x86-64-v3 has beyond all others (System V ABI, AMD64 supplement, 3.1.1), as LLVM calls it.
_RECENT_FEATURES = (
    "avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3", "xsave",
)  # fmt: skip
SUFFIX = ".nbo"


class Code(NamedTuple):
    """A kernel compiled for one kind of arguments."""

    made_with: bytes  # which numba, for which processor
    machine_code: bytes  # an ELF object
    entry: str  # the function in it that takes Python's arguments
    environments: list[tuple[str, list[Any]]]  # variables in it that point to constants, the entry's first


@functools.cache
def processors() -> list[str]:
    """Kinds of processors whose code runs on this one, as LLVM calls them, the best last."""
    has = llvm.get_host_cpu_features() if platform.machine() == "x86_64" else {}
    if os.environ.get("NUMBA_ENABLE_AVX") == "0":  # numba's, for processors whose AVX is not to be trusted
        has = {}
    return [ANY, RECENT] if all(has.get(feature) for feature in _RECENT_FEATURES) else [ANY]


def processor() -> str:
    """The kind of processor that code is made for."""
    return processors()[-1]


@functools.cache
def _numba() -> Path:
    """Numba's folder."""
    found = importlib.util.find_spec("numba")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@functools.cache
def made_with() -> bytes:
    """What machine code must have been made with to run here: numba's version, Python's, the kind of processor."""
    asked = [os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    told = (sys.implementation.cache_tag, llvm.get_process_triple(), *(asked if asked[0] else (processor(), "")))
    return (_numba() / "_version.py").read_bytes() + repr(told).encode()


def name_of(function: Any, kind: Any) -> str:
    """The file of a function's code for arguments of a kind (probes.jit)."""
    digest = hashlib.blake2b(made_with() + repr(kind).encode(), digest_size=8).hexdigest()
    return f"{function.__module__}/{function.__qualname__}-{function.__code__.co_firstlineno}.{digest}{SUFFIX}"


def load(function: Any, kind: Any, folders: Iterable[Path]) -> Callable[..., Any] | None:
    """What to call for a function with arguments of a kind; None where no folder has it."""
    name = name_of(function, kind)
    for folder in folders:
        try:
            code = Code(*pickle.loads((folder / name).read_bytes()))  # noqa: S301 - ours, as numba's beside it are
        except (OSError, EOFError, TypeError, ValueError, pickle.UnpicklingError):
            continue
        if code.made_with == made_with():
            return _linked(function, code)
    return None


def keep(folder: Path, function: Any, kind: Any, code: Code) -> None:
    """Have `load` find a function's code in a folder."""
    path = folder / name_of(function, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(f".{os.getpid()}.tmp")
    made.write_bytes(pickle.dumps(tuple(code)))
    made.replace(path)


def _linked(function: Any, code: Code) -> Callable[..., Any]:
    engine, written_in_c = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.machine_code))
    engine.finalize_object()
    kept = []
    for name, constants in code.environments:
        kept.append(environment := written_in_c.Environment(function.__globals__))
        environment.consts[:] = constants
        ctypes.c_void_p.from_address(engine.get_global_value_address(name)).value = id(environment)
    module = sys.modules[function.__module__]
    address = engine.get_function_address(code.entry)
    made: Callable[..., Any] = written_in_c.make_function(module, function.__name__, function.__doc__ or "", address, kept[0], tuple(kept))
    return made


@functools.cache
def _engine() -> tuple[Any, Any]:
    """LLVM, which knows all that numba's machine code calls, and numba's module that makes functions."""
    helpers, runtime, functions = map(_written_in_c, ("numba._helperlib", "numba.core.runtime._nrt_python", "numba._dynfunc"))
    for each in (helpers, functions):
        for name, address in each.c_helpers.items():
            llvm.add_symbol(f"numba_{name}", address)
    for name, address in runtime.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
    for name, address in helpers.c_helpers.items():
        if not llvm.address_of_symbol(name):  # what C's library of mathematics may lack
            llvm.add_symbol(name, address)
    for name, error in vars(builtins).items():
        if isinstance(error, type) and issubclass(error, BaseException):
            llvm.add_symbol(f"PyExc_{name}", id(error))
    llvm.add_symbol("_Py_NoneStruct", id(None))
    llvm.add_symbol("numba_unpickle", ctypes.cast(_UNPICKLE, ctypes.c_void_p).value)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(codemodel="jitdefault")
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine), functions


def _written_in_c(name: str) -> Any:
    """A module of numba's without the package around it."""
    path = _numba().joinpath(*name.split(".")[1:])
    found = importlib.util.spec_from_file_location(name, f"{path}{EXTENSION_SUFFIXES[0]}")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


_UNPICKLED: dict[bytes, object] = {}  # machine code keeps no reference


def _unpickle(at: int, size: int, _digest: int) -> object:
    """An object that machine code has as bytes: a type of array or tuple."""
    pickled = ctypes.string_at(at, size)
    if pickled not in _UNPICKLED:
        _UNPICKLED[pickled] = pickle.loads(pickled)  # noqa: S301 - of the code itself
    return _UNPICKLED[pickled]


_UNPICKLE = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(_unpickle)
