"""What `python -m bench` tells, for tests, and which of its rows can be measured here."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from conftest import ROOT

from bench.reading import tasks

TASKS = tasks()


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(TASKS[name].lacking is not None, reason=f"needs {TASKS[name].lacking}")


def bench(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "bench", *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
