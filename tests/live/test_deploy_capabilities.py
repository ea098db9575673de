"""Each probe runs with the capabilities that docs/deploy.md says it needs, and without any one of them it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from probes.live.recorder import PROBES

from .server import ROOT
from .test_deploy import needs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
PROGRAM = [sys.executable, "-c", "from analysis.commands import main; main()"]
NEEDS = {probe: wanted for probe, wanted in needs().items() if probe in PROBES}


def refusal(probe: str, folder: Path, capabilities: set[str] | None = None) -> str | None:
    """Why the probe alone cannot record in a namespace of its own with these capabilities (None: all of root's); None if it can."""
    less = [] if capabilities is None else ["setpriv", "--bounding-set=-all" + "".join(f",+{each.lower()}" for each in capabilities)]
    options = ["--output", folder, "--node", "n", "--probes", probe, "--duration", "0.1s", "--no-rules"]
    done = subprocess.run(["unshare", "--net", *less, *PROGRAM, "record", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stderr if done.returncode else None


@cache
def refusal_to_root(probe: str) -> str | None:
    with TemporaryDirectory() as folder:
        return refusal(probe, Path(folder))


@pytest.fixture
def probe(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if (why := refusal_to_root(name)) is not None:
        pytest.skip(f"this kernel does not let root do it either: {why.strip()}")
    return name


@pytest.mark.parametrize("probe", NEEDS, indirect=True)
def test_what_the_page_names_is_enough(probe: str, tmp_path: Path) -> None:
    assert refusal(probe, tmp_path, NEEDS[probe]) is None


one_less = list(chain.from_iterable(((name, each) for each in sorted(wanted)) for name, wanted in NEEDS.items()))


@pytest.mark.parametrize(("probe", "missing"), one_less, indirect=["probe"], ids=["-".join(case) for case in one_less])
def test_nothing_that_the_page_names_is_too_much(probe: str, missing: str, tmp_path: Path) -> None:
    assert refusal(probe, tmp_path, NEEDS[probe] - {missing}) is not None


def test_the_page_names_every_probe() -> None:
    assert PROBES.keys() <= needs().keys()
