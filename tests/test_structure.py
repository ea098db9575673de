"""The tree is what it says: which way imports point, one door per heavy dependency, files that fit in the head."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGES = ("probes", "tracer", "analysis")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400
NO_NAMES = {"utils", "util", "helper", "helpers", "manager", "managers", "common", "misc", "base", "core", "stuff", "data", "info"}

# Which packages may be imported from where; the command line alone sees everything.
ALLOWED = {
    "probes": {"probes"},
    "tracer": {"probes", "tracer"},
    "analysis": {"probes", "tracer", "analysis"},
}
# One door per heavy dependency: the only files that may import it.
DOORS = {
    "numba": {"probes/compiling.py", "probes/code_cache.py"},
    "kubernetes": {"tracer/live/api.py"},
    "pandas": {"analysis/frames"},
    "pyarrow": {"analysis/parquet.py", "analysis/engine/spill.py", "analysis/engine/payload_files.py", "tracer/archive/packets.py"},
    "rich": {"analysis/terminal.py", "analysis/layout.py", "analysis/picture.py", "analysis/storyboard.py", "analysis/commands"},
    "typer": {"analysis/commands"},
    "pyshark": {"probes/deep.py"},
    "distributed": {"analysis/engine/cluster.py"},
    "bcc": {"probes/live/bpf.py"},
    "pyroute2": {"probes/live"},
    "prometheus_client": {"probes/live/metrics.py"},
    "structlog": {"analysis/commands"},
    "requests": set(),
    "scapy": set(),
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    package = name_of(path).partition("/")[0]
    for line, module in imports(path):
        top = module.partition(".")[0]
        assert top not in PACKAGES or top in ALLOWED[package], f"{name_of(path)}:{line} imports {module}"
        if top == "analysis" and module.startswith("analysis.commands"):
            assert name_of(path).startswith("analysis/commands/"), f"{name_of(path)}:{line}: only the command line knows commands"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_dependencies_come_through_one_door(path: Path) -> None:
    name = name_of(path)
    for line, module in imports(path):
        doors = DOORS.get(module.partition(".")[0])
        if doors is not None:
            assert any(name == door or name.startswith(f"{door}/") for door in doors), f"{name}:{line} imports {module}"


def test_doors_are_used() -> None:
    found = {(module.partition(".")[0], name_of(path)) for path in MODULES for _, module in imports(path)}
    for dependency in ("numba", "kubernetes", "pandas", "pyarrow"):
        assert any(top == dependency for top, _ in found), dependency


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_open_with_what_they_are_and_fit_in_the_head(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} says nothing about itself"
    assert len(text.splitlines()) <= MAX_LINES
    assert path.stem not in NO_NAMES


def test_every_package_is_one() -> None:
    folders = {path.parent for path in MODULES}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def loaded(code: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after `code`."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_tracing_needs_no_reporting() -> None:
    tracing = loaded("import tracer.trace, probes.capture, probes.conntrack")
    assert tracing & {"numba", "pandas", "pyarrow", "rich", "typer", "kubernetes", "pyshark", "bcc"} == set()
    assert "numpy" in tracing


def test_reading_the_cluster_needs_no_packets() -> None:
    assert loaded("import tracer.live") & {"pandas", "pyarrow", "kubernetes"} == set()


def test_records_need_no_pandas() -> None:
    assert loaded("import analysis.records, analysis.contract, analysis.filters, analysis.summary") & {"pandas", "pyarrow"} == set()


def test_connections_need_nothing_of_requests() -> None:
    """`--l4-only` begins quickly: what reads inside connections is half of the code."""
    connections = loaded("import analysis.engine.run, analysis.summary, analysis.terminal")
    assert "tracer.pipeline" in connections
    assert connections & {"tracer.requests", "tracer.clocks", "probes.dissect", "rich.progress", "pyarrow", "distributed"} == set()


def test_what_was_kept_is_shown_without_what_found_it() -> None:
    """A second run reads an answer, and loads nothing that reads packets or makes machine code."""
    shown = loaded("import analysis.cache, analysis.filters, analysis.request_table, analysis.commands.trace")
    assert "analysis.cache.store" in shown
    assert shown & {"tracer.pipeline", "tracer.requests", "analysis.record_texts", "probes.jit", "llvmlite"} == set()


HELP = """
import contextlib, io
from analysis.commands import app
for arguments in (["--help"], ["trace", "--help"], ["doctor", "--help"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app(arguments)
"""


def test_help_is_quick() -> None:
    """Help loads nothing that is slow to load."""
    assert loaded(HELP) & {"numpy", "numba", "pandas", "pyarrow", "kubernetes", "yaml"} == set()


REFUSED = """
import contextlib
from analysis.commands import app
with contextlib.suppress(SystemExit):
    app(["trace", "bundle/", "--node", "node-a", "--protocol", "none"])
"""


def test_plain_arguments_are_quick() -> None:
    """typer asks pydantic about each argument otherwise."""
    assert "analysis.commands.trace" in loaded(REFUSED)
    assert loaded(REFUSED) & {"pydantic", "numpy"} == set()


def test_the_command_line_is_the_only_one_that_prints() -> None:
    for path in MODULES:
        if "/commands/" not in name_of(path):
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("print", "input", "exit")]


def test_reconstruction_reads_no_clock() -> None:
    """Time comes only from records, so that live and replay give the same result; what watches a kernel or an API server waits."""
    for path in MODULES:
        name = name_of(path)
        if name.startswith(("probes/", "tracer/")) and not name.startswith(("probes/live/", "tracer/live/")):
            assert {module for _, module in imports(path)} & {"time", "random", "logging", "socket"} == set(), name
