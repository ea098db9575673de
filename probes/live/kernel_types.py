"""What the running kernel's BTF says beside structs: the constants of an enum, the parameters of a function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from probes.live.headers import Btf, BtfError
from probes.live.refusals import BpfError

BTF = Path("/sys/kernel/btf")


class KernelTypes:
    """The types of the kernel and of its modules that are loaded."""

    def __init__(self, folder: Path = BTF) -> None:
        """BpfError where this kernel has no BTF."""
        try:
            self._vmlinux = Btf((folder / "vmlinux").read_bytes(), "vmlinux")
        except (OSError, BtfError) as error:
            raise BpfError(f"this kernel does not tell its types ({error}): boot one with CONFIG_DEBUG_INFO_BTF") from error
        self._modules = {path.name: path for path in sorted(folder.iterdir()) if path.name != "vmlinux"}

    def constants(self, enum: str) -> dict[int, str]:
        """The names of an enum's values; BpfError where this kernel has no such enum."""
        found = self._vmlinux.find(enum, ("enum", "enum64"))
        if not found:
            raise BpfError(f"this kernel has no enum {enum}")
        return {value: name for name, value in self._vmlinux.type(found[0]).constants}

    def parameters(self, functions: Iterable[str], modules: Iterable[str]) -> dict[str, list[str]]:
        """For each of `functions` that the kernel or one of `modules` has: the structs that its parameters point to, "" for other ones."""
        found: dict[str, list[str]] = {}
        for btf in self._btfs(modules):
            for name in functions:
                for type_id in btf.find(name, ("func",)):
                    found[name] = [_pointed_at(btf, parameter.type_id) for parameter in btf.type(btf.type(type_id).target).members]
        return found

    def _btfs(self, modules: Iterable[str]) -> Iterator[Btf]:
        yield self._vmlinux
        yield from (Btf(self._modules[name].read_bytes(), name, self._vmlinux) for name in modules if name in self._modules)


def _pointed_at(btf: Btf, type_id: int) -> str:
    outer = btf.type(btf.peel(type_id))
    inner = btf.type(btf.peel(outer.target)) if outer.kind == "ptr" else outer
    return inner.name if inner.kind in {"struct", "fwd"} else ""
