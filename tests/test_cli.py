"""`hopline trace` and `show` as people use them: every option, on screens and in pipes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, SAMPLES, Hopline, Run, traced_sample
from rich.cells import cell_len

from analysis.commands import app
from analysis.frames import TABLES
from probes.decode.numbers import PROTOCOL_NUMBERS
from probes.dissect import BY_NAME
from tracer.status import STATUSES

Record = dict[str, Any]
BUNDLE, FAILURES, IPV6 = SAMPLES / "iptables", SAMPLES / "failures", SAMPLES / "dual-stack"
ENTRY = [sys.executable, "-c", "from analysis.commands import main; main()"]
OK, PROBLEMS, USAGE, INPUT, OUTPUT = range(5)


def parsed(run: Run) -> list[Record]:
    assert run.code == OK, run.err
    return [json.loads(line) for line in run.out.splitlines()]


def ends(record: Record) -> set[str]:
    places = [record["original"], record["translated"], *record["hops"]]
    return {place[side] for place in places if place for side in ("src", "dst")}


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands if command.callback])
def test_help_has_an_example(command: str, hopline: Hopline) -> None:
    run = hopline(command, "--help")
    assert run.code == OK
    assert f"hopline {command}" in run.out.partition("Example")[2]
    written = importlib.import_module(f"analysis.commands.{command}").__dict__[command].__doc__
    for line in re.findall(r"^      (\S.*)$", written, re.MULTILINE):
        assert f"\n    {line}\n" in run.out, "a command that was broken into lines cannot be copied"


def test_help_and_version(hopline: Hopline) -> None:
    assert hopline("-h").out == hopline("--help").out
    assert hopline("--version").out.startswith("hopline")
    assert hopline().code == USAGE


@pytest.mark.parametrize("verb", [["clocks"], ["bench", "proxy"]])
def test_a_command_alone_is_the_one_among_all(verb: list[str], hopline: Hopline) -> None:
    """`hopline VERB` makes no other verb's options; for groups, all are there. Lines are as wide as each finds right."""
    program = "import sys; sys.argv[0] = 'hopline'; from analysis.commands import main; main()"
    alone = subprocess.run([sys.executable, "-c", program, *verb, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "".join(alone.stdout.split()) == "".join(hopline(*verb, "--help").out.split())


FILTERS: tuple[tuple[Path, list[str], Callable[[Record], bool]], ...] = (
    (FAILURES, ["--service", "demo/dead"], lambda r: bool(r["service"] and r["service"]["name"] == "dead")),
    (FAILURES, ["--service", "dead"], lambda r: bool(r["service"] and r["service"]["name"] == "dead")),
    (FAILURES, ["--service", "demo/*"], lambda r: bool(r["service"] and r["service"]["namespace"] == "demo")),
    (
        FAILURES,
        ["--pod", "toolbox*"],
        lambda r: any(end and (end["name"] or "").startswith("toolbox") for end in (r["client"], r["server"])),
    ),
    (FAILURES, ["--node", "node-b"], lambda r: any(hop["node"] == "node-b" for hop in r["hops"])),
    (FAILURES, ["--address", "10.96.40.1"], lambda r: any(end.startswith("10.96.40.1:") for end in ends(r))),
    (FAILURES, ["--port", "53"], lambda r: any(end.endswith(":53") for end in ends(r))),
    (FAILURES, ["--protocol", "udp"], lambda r: r["original"] is not None and r["original"]["proto"] == "udp"),
    (FAILURES, ["--protocol", "dns"], lambda r: r["protocol"] == "dns"),
    (FAILURES, ["--operation", "GET *"], lambda r: (r["operation"] or "").startswith("GET ")),
    (FAILURES, ["--status", "NX*"], lambda r: r["status"] == "NXDOMAIN"),
    (FAILURES, ["--l4-only", "--protocol", "udp"], lambda r: r["protocol"] == "udp"),
    (FAILURES, ["--status", "refused"], lambda r: r["status"] == "refused"),
    (FAILURES, ["--status", "timeout", "--service", "blackhole"], lambda r: bool(r["service"] and r["service"]["name"] == "blackhole")),
    (IPV6, ["--address", "fd00:0030:0::100"], lambda r: any(end.startswith("[fd00:30::100]:") for end in ends(r))),
)


@pytest.mark.parametrize(("bundle", "options", "wanted"), FILTERS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_filters_choose(bundle: Path, options: list[str], wanted: Callable[[Record], bool], hopline: Hopline) -> None:
    everything = parsed(hopline("trace", bundle, "--json", *(option for option in options if option == "--l4-only")))
    chosen = parsed(hopline("trace", bundle, "--json", *options))
    assert chosen == [record for record in everything if wanted(record)]
    assert 0 < len(chosen) < len(everything)


@pytest.mark.parametrize("options", [[], ["--l4-only"]], ids=" ".join)
def test_where_nothing_fits_that_is_said(options: list[str], hopline: Hopline) -> None:
    shown = hopline("trace", BUNDLE, "--service", "nobodys", *options)
    assert (shown.code, "none of them is what was asked for" in shown.out) == (OK, True)
    assert "none of them" not in hopline("trace", BUNDLE, *options).out


def test_times_in_every_form_choose_the_same(hopline: Hopline) -> None:
    everything = parsed(hopline("trace", BUNDLE, "--json"))
    first_ns = min(each.first_ns or 0 for each in traced_sample(BUNDLE).bundle.captures.values())
    moment_ns = sorted(record["start_ns"] for record in everything)[len(everything) // 2] // 1000 * 1000
    since_first = f"+{(moment_ns - first_ns) / 1e9:.6f}"
    when = datetime.fromtimestamp(moment_ns // 10**9, UTC).replace(microsecond=moment_ns % 10**9 // 1000)
    forms = [since_first, when.isoformat(), when.replace(tzinfo=None).isoformat(), f"{moment_ns // 10**9}.{moment_ns % 10**9:09d}"]
    for form in forms:
        before = parsed(hopline("trace", BUNDLE, "--json", "--until", form))
        after = parsed(hopline("trace", BUNDLE, "--json", "--since", form))
        assert {record["id"] for record in before} == {record["id"] for record in everything if record["start_ns"] <= moment_ns}
        assert {record["id"] for record in after} == {record["id"] for record in everything if record["end_ns"] >= moment_ns}


@pytest.mark.parametrize("text", ["yesterday", "+", "+soon", "inf", "nan", "2026-13-40", ""])
def test_what_is_no_time_is_refused(text: str, hopline: Hopline) -> None:
    run = hopline("trace", BUNDLE, "--since", text)
    assert (run.code, run.out) == (USAGE, "")
    assert "not a time" in run.err


def test_numbers_are_numbers(hopline: Hopline) -> None:
    for option, value, said in (
        ("--limit", "many", "integer"),
        ("--limit", "-1", "0"),
        ("--limit", "9" * 30, "less"),
        ("--port", "99999", "65535"),
        ("--min-confidence", "2", "1"),
    ):
        run = hopline("trace", BUNDLE, option, value)
        assert run.code == USAGE
        assert option in run.err
        assert said in run.err.partition(option)[2]


def test_limit(hopline: Hopline) -> None:
    everything = parsed(hopline("trace", BUNDLE, "--json"))
    assert parsed(hopline("trace", BUNDLE, "--json", "--limit", "3")) == everything[:3]
    assert parsed(hopline("trace", BUNDLE, "--json", "--limit", "0")) == everything
    assert f"{len(everything) - 3} more" in hopline("trace", BUNDLE, "--limit", "3").out
    assert hopline("trace", BUNDLE, "--limit", "-1").code == USAGE


def test_parquet_tables_can_be_read_back(hopline: Hopline, tmp_path: Path) -> None:
    everything = parsed(hopline("trace", BUNDLE, "--json", "--parquet", tmp_path / "tables"))
    tables = {path.stem: pd.read_parquet(path) for path in (tmp_path / "tables").iterdir()}
    assert set(tables) == set(TABLES)
    assert set(tables["connections"]["id"]) == {record.get("connection", record["id"]) for record in everything}
    assert {"http", "mysql", "dns"} <= set(tables["requests"]["protocol"])


@pytest.mark.parametrize("option", ["--parquet", "--summary"])
def test_what_exists_is_never_overwritten(option: str, hopline: Hopline, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    run = hopline("trace", BUNDLE, option, kept)
    assert (run.code, run.out, kept.read_text()) == (USAGE, "", "mine")
    assert run.err == f"hopline: {kept} exists (name another, or remove it)\n"


@pytest.mark.parametrize("option", ["--parquet", "--summary"])
def test_where_nothing_can_be_written_is_said(option: str, hopline: Hopline, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = hopline("trace", BUNDLE, option, tmp_path / "file" / "output")
    assert run.code == OUTPUT
    assert run.err.count("\n") == 1
    assert "cannot be written" in run.err


def test_summary_counts_what_was_seen(hopline: Hopline, tmp_path: Path) -> None:
    everything = parsed(hopline("trace", BUNDLE, "--json", "--summary", tmp_path / "summary.json", "--service", "none"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert everything == []  # a selection changes what is printed, not what was seen
    assert summary["connections"]["total"] == sum(summary["connections"]["by_status"].values()) == 44
    assert {node: each["captured"] for node, each in summary["nodes"].items()} == dict.fromkeys(("node-a", "node-b", "node-c"), True)
    assert sum(each["frames"] for each in summary["captures"].values()) == 2191
    assert summary["problems"] == []


def test_evidence_can_be_left_out(hopline: Hopline) -> None:
    everything = parsed(hopline("trace", BUNDLE, "--json"))
    assert any("conntrack" in record["evidence"] for record in everything)
    assert not any("conntrack" in record["evidence"] for record in parsed(hopline("trace", BUNDLE, "--json", "--no-ledger")))
    assert any(step["rules"] for record in everything for step in record["translations"])
    assert not any(step["rules"] for record in parsed(hopline("trace", BUNDLE, "--json", "--no-rules")) for step in record["translations"])
    nameless = parsed(hopline("trace", BUNDLE, "--json", "--no-cluster"))
    assert {end["kind"] for record in nameless for end in (record["client"], record["server"]) if end} == {None}
    assert {record["service"] for record in nameless} == {None}


def test_captures_by_themselves_with_metadata_beside_them(hopline: Hopline) -> None:
    captures = sorted([*BUNDLE.glob("*.pcap"), *BUNDLE.glob("*.links.txt")])
    whole = parsed(hopline("trace", BUNDLE, "--json", "--no-ledger", "--no-rules"))
    assert parsed(hopline("trace", *captures, "--cluster", BUNDLE / "cluster.json.gz", "--json")) == whole


def test_show_draws_and_refuses(hopline: Hopline) -> None:
    assert "DNAT" in hopline("show", BUNDLE, "c18").out
    for unknown in ("c0", "c45", "45", "", "c-1", "c1.5"):
        run = hopline("show", BUNDLE, unknown)
        assert (run.code, run.out, run.err.count("\n")) == (USAGE, "", 1)
        assert "c1 to c44" in run.err


def test_the_hint_names_the_bundle_that_was_traced(hopline: Hopline) -> None:
    assert "hopline explain sample_pcaps/iptables r1" in hopline("trace", "--limit", "1", "sample_pcaps/iptables").out
    assert "hopline show sample_pcaps/iptables c1" in hopline("trace", "--l4-only", "--limit", "1", "sample_pcaps/iptables").out
    assert "hopline explain" not in hopline("trace", *sorted(BUNDLE.glob("*.pcap"))).out


def test_everything_fits_the_screen(sample: Path, hopline: Hopline) -> None:
    for columns in (80, 100, 150, 220):
        out = hopline("trace", sample.relative_to(ROOT), columns=columns).out
        assert max(cell_len(line) for line in out.splitlines()) <= columns
        assert "…" not in out.splitlines()[0]


def test_nobody_looking_means_wide_lines(hopline: Hopline) -> None:
    assert " > 10.244." in hopline("trace", "--l4-only", BUNDLE, columns=None).out
    requests = hopline("trace", BUNDLE, columns=None).out
    assert "Time went to" in requests
    assert "…" not in requests, "nothing is cut"


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "table"])
def test_a_closed_pipe_ends_it_quietly(options: list[str]) -> None:
    """`hopline trace … | head -1`."""
    with subprocess.Popen([*ENTRY, "trace", str(FAILURES), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(16)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == OK


@pytest.mark.parametrize(("option", "value"), [("--status", "refsued"), ("--protocol", "TCP")])
def test_a_misspelt_choice_is_refused_with_the_choices(hopline: Hopline, option: str, value: str) -> None:
    run = hopline("trace", BUNDLE, option, value)
    assert (run.code, run.out) == (USAGE, "")
    assert "not one of" in run.err


def test_the_choices_of_the_command_are_those_of_the_records() -> None:
    trace_command = importlib.import_module("analysis.commands.trace")
    assert trace_command.STATUSES == STATUSES
    layers = set(BY_NAME) - {"proxy"}  # a PROXY header is before a request, never one
    assert set(trace_command.PROTOCOLS) == set(PROTOCOL_NUMBERS) | layers | {"grpc", "websocket", "tls", "exchange"}
