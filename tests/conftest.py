"""What the tests share: the sample bundles, the recorded captures, and the command line in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from typer.testing import CliRunner

from analysis.commands import app
from analysis.records import Record, Recorder
from tracer.bundle import read_bundle
from tracer.trace import Trace, trace

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_pcaps"
CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or ROOT.parent / "shared" / "captures")


@dataclass(frozen=True)
class Run:
    """What a command did: exit code and its two outputs."""

    code: int
    out: str
    err: str


Hopline = Callable[..., Run]

# A shell that starts tests in the background has them ignore SIGINT (POSIX sh, 2.11), and all that they start: recorders then do not end.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["HOPLINE_CACHE"] = "0"  # what is tested is found anew; tests of the cache have one of their own

# An example may take as long as it takes: a machine may be slow, or busy, or compile. CI judges a change, so it tries the same examples
# every time; elsewhere every run looks for new ones.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI")))
settings.load_profile("any")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden outputs in sample_pcaps/ instead of comparing")


# These have the machine to themselves; the rest runs side by side, in namespaces and on ports of each test worker's own.
ALONE = (
    "tests/image/", "tests/test_bench_measures.py", "tests/live/test_proxy_bench.py",  # measure it
    "tests/live/test_drops", "tests/live/test_sockets",  # look at all of the kernel: what others attach, drop and open
    "tests/kernel/test_pa", "tests/live/test_record_kube_proxy.py",  # compare moments: whole clusters, and which packet came first
    "tests/kernel/test_proxies_crowd.py",  # wants every one of a crowd's requests told, by moments
)  # fmt: skip
ALONE_TOO = "overlapping-redis"  # whose client asks again while the server sleeps, by the millisecond
WAITING = ("tests/dissect/", "tests/kernel/", "tests/live/")  # for servers, agents and recordings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait and files that compute take turns, so that at any moment there are some of both."""
    turns: dict[Path, tuple[int, bool]] = {}
    of_kind = Counter[bool]()
    for item in items:
        if item.nodeid.startswith(ALONE) or ALONE_TOO in item.nodeid:
            item.add_marker("alone")
        elif item.path not in turns:
            computes = not item.nodeid.startswith(WAITING)
            turns[item.path] = of_kind[computes], computes
            of_kind[computes] += 1
    items.sort(key=lambda item: (0, False) if item.get_closest_marker("alone") else turns[item.path])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `sample` runs on every bundle of sample_pcaps/; one that asks for `capture`, on every recorded capture."""
    if "sample" in metafunc.fixturenames:
        samples = sorted(path for path in SAMPLES.iterdir() if path.is_dir())
        metafunc.parametrize("sample", samples, ids=[path.name for path in samples])
    if "capture" in metafunc.fixturenames:
        captures = sorted(path.parent for path in CAPTURES.glob("*/*/truth.jsonl"))
        missing = pytest.mark.skip(reason=f"no recorded captures at {CAPTURES} (set HOPLINE_CAPTURES)")
        found = [pytest.param(path, id="/".join(path.parts[-2:])) for path in captures]
        metafunc.parametrize("capture", found or [pytest.param(None, id="none", marks=missing)])


@pytest.fixture
def hopline(monkeypatch: pytest.MonkeyPatch) -> Hopline:
    """Run `hopline ARGUMENTS…` in this process, from the repository's root, on a terminal that is 80 columns wide."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str | Path, stdin: bytes | None = None, columns: int | None = 80) -> Run:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["hopline", *words])
        environment = {"COLUMNS": None if columns is None else str(columns), "FORCE_COLOR": None, "TTY_COMPATIBLE": None}
        done = CliRunner().invoke(app, words, input=stdin, env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Run(done.exit_code, done.stdout, done.stderr)

    return run


@cache
def traced_sample(folder: Path) -> Trace:
    """The trace of a bundle with all its evidence, once per run."""
    return trace(read_bundle([folder]))


@pytest.fixture
def traced(sample: Path) -> Trace:
    return traced_sample(sample)


@cache
def _records(folder: Path) -> list[Record]:
    return list(Recorder(traced_sample(folder)))


@pytest.fixture
def records(sample: Path) -> list[Record]:
    return _records(sample)
