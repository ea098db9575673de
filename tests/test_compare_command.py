"""`hopline compare` as people use it."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SAMPLES, Hopline

from analysis.compare import BY, VARIED
from analysis.compare.claims import VERDICTS

A, B = SAMPLES / "iptables", SAMPLES / "ipvs"
OK, PROBLEMS, USAGE, INPUT, OUTPUT = range(5)
command = importlib.import_module("analysis.commands.compare")  # the package's name of it is the function
PAGE = (ROOT / "docs" / "compare.md").read_text()


def keys_of(told: Any) -> set[str]:
    """Every key of nested objects, but not the names of Services and endpoints."""
    if isinstance(told, dict):
        named = {"services", "endpoints", "verdicts"}
        return set(told) | {key for name, each in told.items() if name not in named for key in keys_of(each)}
    return {key for each in told for key in keys_of(each)} if isinstance(told, list) else set()


def test_one_object_with_units_and_every_key_documented(hopline: Hopline) -> None:
    run = hopline("compare", A, B, "--json", "--by", "hop")
    assert run.code == OK, run.err
    told = json.loads(run.out)
    assert [side["name"] for side in told["sides"]] == ["iptables", "ipvs"]
    assert {claim["metric"] for claim in told["comparisons"][0]["claims"]} >= {"nat-first", "connect", "failures", "hop"}
    assert [key for key in sorted(keys_of(told)) if not re.search(rf"`{key}(\[\])?`", PAGE)] == []


def test_words_lead_with_the_verdict_and_end_with_what_the_sides_are(hopline: Hopline) -> None:
    run = hopline("compare", A, B, SAMPLES / "nftables", columns=200)
    assert run.code == OK, run.err
    lines = run.out.splitlines()
    assert lines[0].startswith("iptables is better in")
    refused = next(line for line in lines if "cannot be ranked" in line)
    assert refused == "iptables and nftables cannot be ranked: they differ in kernel"
    assert "record both sides on the same kernel" in run.out
    assert re.search(r"^ ?kernel +6\.1\.0-56-amd64 +6\.1\.0-56-amd64 +6\.18\.\S+", run.out, re.MULTILINE)
    assert "load balancing in ipvs" in run.out


def test_a_terminal_is_told_how_far_it_is(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def steps() -> Iterator[Callable[[str, int, int], None]]:
        yield lambda what, done, _total: told.setdefault(what, []).append(done)

    monkeypatch.setattr(command, "steps", steps)
    assert hopline("compare", A, B).code == OK
    assert list(told) == ["ipvs: chance", "ipvs: sizes"]  # no half of a sample has twelve connections
    assert all(done == list(range(1, len(done) + 1)) for done in told.values())


def test_a_page_is_written_beside_the_words(hopline: Hopline, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    run = hopline("compare", A, A, "--html", page)
    assert run.code == OK, run.err
    assert run.out.startswith("no difference between iptables (1) and iptables (2) was shown")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    again = hopline("compare", A, A, "--html", page)
    assert (again.code, "--force" in again.err) == (USAGE, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([A], USAGE, "two or more"),
        ([A, "nowhere"], INPUT, "nowhere"),
        ([A, B, "--by", "colour"], USAGE, "not one of service, hop, node-pair"),
        ([A, B, "--varied", "weather"], USAGE, "not one of mode"),
        ([A, B, "--level", "2"], USAGE, "level"),
        ([A, A / "node-a.links.txt"], INPUT, "no captures found"),
    ],
)
def test_mistakes_are_told(arguments: list[str | Path], code: int, words: str, hopline: Hopline) -> None:
    run = hopline("compare", *arguments)
    assert run.code == code
    assert words in re.sub(r"[│\s]+", " ", run.err)
    assert run.out == ""


def test_sides_are_called_by_as_much_of_their_path_as_it_takes() -> None:
    assert command._names([Path("/b/iptables"), Path("/b/ipvs")]) == ["iptables", "ipvs"]
    assert command._names([Path("/b/iptables/short"), Path("/b/ipvs/short")]) == ["iptables/short", "ipvs/short"]
    assert command._names([Path("/b/x"), Path("/b/x")]) == ["x (1)", "x (2)"]


def test_choices_are_those_of_the_code_and_documented() -> None:
    assert (command.BY, command.VARIED) == (BY, VARIED)
    for verdict in VERDICTS:
        assert f"| {verdict} |" in PAGE


def test_help_loads_nothing_slow() -> None:
    program = """
import contextlib, io, sys
from analysis.commands import app
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app(["compare", "--help"])
print(*{name.partition(".")[0] for name in sys.modules})"""
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "numba", "pandas", "rich", "yaml"} & set(loaded) == set()
