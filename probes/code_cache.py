"""Compiled code from numba's cache, without what only compiling needs: that is four fifths of the time that loading takes.

Before numba looks into its cache it imports all that it can compile, and it reads the bitcode of each function, which is there for others
to be compiled with. Both wait here until something is compiled.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from llvmlite import binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]  # written in C


class _Code(JITCodeLibrary):
    """Machine code of the cache, and the bitcode beside it as it was read."""

    _bitcode: bytes

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        name, _, (machine_code, bitcode) = state
        code = cls(codegen, name)
        code.enable_object_caching()
        code._set_compiled_object(machine_code)
        code._finalize_final_module()
        code._bitcode = bitcode
        return code

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._bitcode)
            self._codegen._engine._load_defined_symbols(self._shared_module)
        return self._shared_module

    def get_pointer_to_function(self, name: str) -> int:
        return cast("int", self._codegen._engine.get_function_address(name))


class _Loaded(CompileResultCacheImpl):
    def rebuild(self, target_context: Any, payload: Any) -> Any:
        codegen = target_context.codegen()
        codegen.unserialize_library = functools.partial(_Code._unserialize, codegen)
        return super().rebuild(target_context, payload)


class QuickCache(FunctionCache):
    """A function's `_cache`."""

    _impl_class = _Loaded

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The function compiled for `sig`, None where the cache does not have it."""
        for name, address in _nrt_python.c_helpers.items():  # what machine code calls, as numba.core.runtime.nrt names it
            llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
        return self._load_overload(sig, target_context)
