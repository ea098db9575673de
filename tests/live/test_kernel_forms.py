"""Records of events have one form in C and in NumPy, and the programs that write them compile for this kernel."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.live import confirm
from probes.live.bpf import BpfError, Program
from probes.live.drops import loader as drops
from probes.live.kernel_types import KernelTypes
from probes.live.natpath import loader as natpath

Places = set[tuple[str, int]]
# name: (source, defines, structs, struct in C, its dtype)
FORMS: dict[str, tuple[Path, dict[str, int], dict[str, Any], str, np.dtype[Any]]] = {
    "drops": (drops.SOURCE, {"DETAILS": 1, "RING_BYTES": 65536}, drops.STRUCTS, "event", drops.EVENT),
    "confirm": (confirm.SOURCE, {"NETNS": 1, "RING_BYTES": 65536}, confirm.STRUCTS, "confirmed", confirm.CONFIRMED),
    "natpath": (
        natpath.SOURCE, {"NETNS": 1, "SEED": 7, "KEEP_BELOW": 1 << 31, "RING_BYTES": 65536}, natpath.STRUCTS, "call", natpath.CALL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_record_is_read_where_the_program_writes_it(name: str, tmp_path: Path) -> None:
    path, defines, structs, struct, dtype = FORMS[name]
    source = tmp_path / f"{name}.c"
    source.write_text(f"{path.read_text()}\nBPF_ARRAY(form, struct {struct}, 1);\n")
    try:
        if name == "natpath":
            defines = defines | natpath.positions(KernelTypes().parameters(natpath.FUNCTIONS, natpath.MODULES))
        program = Program(source, defines, structs)
    except BpfError as error:
        pytest.skip(str(error))
    with program:
        leaf = program.map("form").Leaf
        assert in_c(leaf) == in_numpy(dtype)
        assert ctypes.sizeof(leaf) == dtype.itemsize


def in_c(struct: Any, before: int = 0) -> Places:
    """(name, offset) of the fields of a C struct, those of structs inside it too; what only fills a gap is left out."""
    found: Places = set()
    for name, kind in struct._fields_:
        at = before + getattr(struct, name).offset
        if issubclass(kind, ctypes.Structure):
            found |= in_c(kind, at)
        elif "pad" not in name:
            found.add((name, at))
    return found


def in_numpy(dtype: np.dtype[Any], before: int = 0) -> Places:
    found: Places = set()
    for name, (kind, at, *_) in (dtype.fields or {}).items():
        if kind.fields:
            found |= in_numpy(kind, before + at)
        elif "pad" not in name:
            found.add((name, before + at))
    return found
