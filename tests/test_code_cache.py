"""Compiled code: what one process has compiled, the next one loads, and compiles further functions with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from analysis.commands import _compiling
from probes import code_folders
from probes.code_ready import SUFFIX

KERNELS = """
import numpy as np
from probes.jit import inlined, kernel

@inlined
def plus(one, other):
    return one + other

@kernel
def in_order(values, by):
    made = np.empty(len(values), np.int64)
    for row in range(len(values)):
        made[row] = plus(values[row], by)
    made.sort()
    return made

@kernel
def least(values, by):
    found = plus(values[0], by)
    for row in range(len(values)):
        found = min(found, plus(values[row], by))
    return found
"""
PROGRAM = """
import json, sys
import numpy as np
import kernels
from probes import code_folders

found = getattr(kernels, sys.argv[1])(np.array([7, 5, 11]), 2)
told = [name.partition(".")[2] for name in code_folders.started], "numba" in sys.modules, "numba.typed.dictimpl" in sys.modules
print(json.dumps([np.asarray(found).tolist(), *told]))
"""


def run(folder: Path, name: str, **settings: str) -> list[object]:
    """`[what the kernel gives, what had to be compiled, whether numba was imported, whether what compiles was]`."""
    (folder / "kernels.py").write_text(KERNELS)
    environment = os.environ | settings | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, check=True)
    return list(json.loads(ended.stdout))


def test_compiled_code_is_loaded_without_the_compiler_and_compiled_with(tmp_path: Path) -> None:
    assert run(tmp_path, "in_order") == [[7, 9, 13], ["in_order", "plus"], True, True]
    assert run(tmp_path, "in_order") == [[7, 9, 13], [], False, False]
    assert run(tmp_path, "least") == [7, ["least"], True, True]  # `plus` is linked into it from the cache
    for path in (tmp_path / "cache").rglob(f"*{SUFFIX}"):
        path.write_bytes(path.read_bytes()[:99])
    assert run(tmp_path, "in_order") == [[7, 9, 13], [], True, False]  # numba has it too
    assert run(tmp_path, "in_order", NUMBA_CPU_NAME="x86-64") == [[7, 9, 13], ["in_order", "plus"], True, True]


def test_changed_kernels_are_compiled_again_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' sources change nothing, nor does what was compiled."""
    monkeypatch.setattr(code_folders, "HERE", tmp_path / "probes")
    for package in ("probes", "tracer", "analysis/compare"):
        (tmp_path / package).mkdir(parents=True)
    told = [code_folders.state.__wrapped__()]
    for number, (file, changes) in enumerate(
        [("probes/decode.py", True), ("tracer/ways.py", True), ("analysis/compare/ranks.py", True), ("analysis/words.py", False),
         ("probes/compiled/jit-0/kept.py", False), ("analysis/__pycache__/ways.py", False)]
    ):  # fmt: skip
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{'from probes.jit import kernel' if 'words' not in file else ''}  # {number}")
        told.append(code_folders.state.__wrapped__())
        assert (told[-1] != told[-2]) == changes, file


def test_code_of_older_states_is_forgotten_when_more_is_made(tmp_path: Path) -> None:
    others = [tmp_path / "cache" / f"jit-{number:016x}" for number in range(code_folders.STATES + 3)]
    for age, folder in enumerate(others):
        (folder / "probes.some").mkdir(parents=True)
        os.utime(folder, (1e9 - age, 1e9 - age))
    (tmp_path / "cache" / f"jit-{'f' * 16}").symlink_to("gone")  # as one is that another process removes meanwhile
    mine = tmp_path / "cache" / "jit-notes"
    mine.mkdir()
    run(tmp_path, "least")
    left = {folder.name for folder in (tmp_path / "cache").iterdir() if folder.exists()}
    assert left == {mine.name, code_folders.state(), *(folder.name for folder in others[: code_folders.STATES - 1])}
    for folder in others:
        folder.mkdir(exist_ok=True)
    run(tmp_path, "least")
    assert all(folder.exists() for folder in others), "nothing was made"


def test_code_for_recent_processors_is_for_those_alone() -> None:
    def kinds(**settings: str) -> str:
        program = "from probes.code_ready import processors; print(*processors())"
        return subprocess.run(
            [sys.executable, "-c", program], env=os.environ | settings, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert kinds(NUMBA_ENABLE_AVX="0") == "generic"
    assert kinds() == ("generic x86-64-v3" if " avx2 " in Path("/proc/cpuinfo").read_text() else "generic")


def test_compiling_is_told_once_and_where_somebody_watches_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for watched, lines in ((False, 1), (True, 4)):
        monkeypatch.setattr("sys.stderr.isatty", lambda watched=watched: watched, raising=False)
        for count in range(1, 80):
            _compiling(count)
        told = capsys.readouterr().err.splitlines()
        assert told[0] == "hopline: compiling for this processor, which takes half a minute, once"
        assert len(told) == lines
