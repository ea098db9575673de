"""Compiled code: what one process has compiled, the next one loads, and compiles further functions with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

KERNELS = """
import numpy as np
from probes.jit import inlined, kernel

@inlined
def plus(one, other):
    return one + other

@kernel
def middle(values, by):
    made = np.empty(len(values), np.int64)
    for row in range(len(values)):
        made[row] = plus(values[row], by)
    made.sort()
    return made[len(values) // 2]

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

function = getattr(kernels, sys.argv[1])
found = function(np.array([7, 5, 11]), 2)
told = {each.__name__: sum(each.stats.cache_hits.values()) for each in (function, kernels.plus)}
print(json.dumps([int(found), told, "numba.typed.dictimpl" in sys.modules]))
"""


def run(folder: Path, name: str) -> list[object]:
    """`[what the kernel gives, how many functions came from the cache, whether what compiles was loaded]`."""
    (folder / "kernels.py").write_text(KERNELS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, check=True)
    return list(json.loads(ended.stdout))


def test_compiled_code_is_loaded_without_the_compiler_and_compiled_with(tmp_path: Path) -> None:
    assert run(tmp_path, "middle") == [9, {"middle": 0, "plus": 0}, True]
    assert run(tmp_path, "middle") == [9, {"middle": 1, "plus": 0}, False]
    assert run(tmp_path, "least") == [7, {"least": 0, "plus": 1}, True]  # `plus` is linked into it from the cache
