"""`hopline report` as people use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES, Hopline

BUNDLE = SAMPLES / "iptables"
OK, PROBLEMS, USAGE, INPUT, OUTPUT = range(5)


def test_it_writes_one_file_and_says_where(hopline: Hopline, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    run = hopline("report", BUNDLE, "-o", page)
    assert (run.code, run.out) == (OK, "")
    assert run.err == f"{page}: {page.stat().st_size / 1e6:.1f} MB, open it in any browser\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "<title>iptables</title>" in page.read_text("utf-8")


def test_it_overwrites_only_when_told_to(hopline: Hopline, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    run = hopline("report", BUNDLE, "-o", page)
    assert run.code == USAGE
    assert "--force" in run.err
    assert page.read_text() == "mine"
    assert hopline("report", BUNDLE, "-o", page, "--force", "--title", "a < b").code == OK
    assert "<title>a &lt; b</title>" in page.read_text("utf-8")


def test_a_dash_is_standard_output(hopline: Hopline) -> None:
    run = hopline("report", BUNDLE / "node-a.pcap", "--cluster", BUNDLE / "cluster.json.gz", "-o", "-", "--title", "one node")
    assert (run.code, run.err) == (OK, "")
    assert run.out.startswith("<!doctype html>")
    assert run.out.endswith("</html>\n")
    assert "nodes without a capture: node-b, node-c" in run.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "-o", "x.html"], INPUT, "nowhere"),
        ([BUNDLE], USAGE, "output"),
        ([BUNDLE, "-o", "missing-folder/x.html"], OUTPUT, "cannot be written"),
        ([BUNDLE, "-o", "-", "--min-confidence", "1.5"], USAGE, "min-confidence"),
        ([BUNDLE / "node-a.links.txt", "-o", "-"], INPUT, "no captures found"),
    ],
)
def test_mistakes_are_told(arguments: list[str | Path], code: int, words: str, hopline: Hopline) -> None:
    run = hopline("report", *arguments)
    assert run.code == code
    assert words in re.sub(r"\s+", " ", run.err)
    assert run.out == ""


def test_nothing_captured_is_told(hopline: Hopline, tmp_path: Path) -> None:
    (tmp_path / "node-a.pcap").write_bytes((BUNDLE / "node-a.pcap").read_bytes()[:24])  # a header, and no packet
    run = hopline("report", tmp_path, "-o", tmp_path / "report.html")
    assert run.code == INPUT
    assert "no packets could be read" in run.err
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_capture_is_reported_and_leads(hopline: Hopline, tmp_path: Path) -> None:
    (tmp_path / "node-a.pcap").write_bytes((BUNDLE / "node-a.pcap").read_bytes()[:20_011])
    (tmp_path / "node-b.pcap").write_bytes(b"not a capture at all, whatever its name says")
    page = tmp_path / "report.html"
    run = hopline("report", tmp_path, "-o", page)
    assert run.code == PROBLEMS
    assert '<li class="error"><b>error</b> node-b.pcap' in page.read_text("utf-8")


def test_help_loads_nothing_slow() -> None:
    program = """
import contextlib, io, sys
from analysis.commands import app
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app(["report", "--help"])
print(*{name.partition(".")[0] for name in sys.modules})"""
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "numba", "pandas", "rich", "yaml"} & set(loaded) == set()


def test_the_assets_are_in_the_wheel(tmp_path: Path) -> None:
    """What is installed can make a page: template, style, scripts and libraries go with the code."""
    pytest.importorskip("hatchling", reason="needs hatchling to build a wheel (dev group)")
    import zipfile  # noqa: PLC0415

    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("analysis/report/")}
    source = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "analysis" / "report").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert source <= held
