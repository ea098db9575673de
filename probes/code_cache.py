"""Compiled code from numba's cache, without what only compiling needs: that is four fifths of the time that loading takes.

Before numba looks into its cache it imports all that it can compile, and it reads the bitcode of each function, which is there for others
to be compiled with. Both wait here until something is compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from llvmlite import binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, InTreeCacheLocator
from numba.core.codegen import JITCodeLibrary
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]  # written in C

from probes import code_folders


class _Code(JITCodeLibrary):
    """Machine code of the cache, and the bitcode beside it as it was read."""

    _machine_code: bytes
    _bitcode: bytes

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        name, _, (machine_code, bitcode) = state
        code = cls(codegen, name)
        code.enable_object_caching()
        code._set_compiled_object(machine_code)
        code._finalize_final_module()
        code._machine_code, code._bitcode = machine_code, bitcode
        return code

    def _get_compiled_object(self) -> bytes:
        return self._machine_code

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._bitcode)
            self._codegen._engine._load_defined_symbols(self._shared_module)
        return self._shared_module

    def get_pointer_to_function(self, name: str) -> int:
        return cast("int", self._codegen._engine.get_function_address(name))


class _Module(InTreeCacheLocator):
    """A function's place in a folder of machine code: its module's name, wherever that is installed."""

    def __init__(self, function: Any, source: str) -> None:
        super().__init__(function, source)
        self._cache_path = function.__module__

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Module:
        return cls(py_func, py_file)

    def ensure_cache_path(self) -> None:
        """QuickCache makes it."""


class _Loaded(CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Module]  # noqa: RUF012 - as numba declares it

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        codegen = target_context.codegen()
        codegen.unserialize_library = functools.partial(_Code._unserialize, codegen)
        return super().rebuild(target_context, payload)


class QuickCache(FunctionCache):
    """A function's `_cache`: looks into `folders`, saves in `kept`, one of them; nowhere if that is None."""

    _impl_class = _Loaded

    def __init__(self, function: Any, folders: Sequence[Path], kept: Path | None) -> None:
        super().__init__(function)
        stamp, name = self._impl.locator.get_source_stamp(), self._impl.filename_base
        self._kept = kept and kept / function.__module__
        self._files = {folder: IndexDataCacheFile(str(folder / function.__module__), name, stamp) for folder in folders}
        if kept is not None:
            self._cache_file = self._files[kept]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The function compiled for `sig`, None where no folder has it: numba then compiles it."""
        for name, address in _nrt_python.c_helpers.items():  # what machine code calls, as numba.core.runtime.nrt names it
            llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
        key = self._index_key(sig, target_context.codegen())
        found = next((code for file in self._files.values() if (code := file.load(key)) is not None), None)
        if found is not None:
            return self._impl.rebuild(target_context, found)
        if not code_folders.started:
            code_folders.forget_old_states()
        code_folders.started.append(f"{self._py_func.__module__}.{self._py_func.__qualname__}")
        for told in code_folders.tell:
            told(len(code_folders.started))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the function compiled for `sig` for others, if there is a place for it."""
        if self._kept is not None:
            self._kept.mkdir(parents=True, exist_ok=True)
            super().save_overload(sig, data)
