"""Bad input, damaged input, hostile names: what can be read is used, one clear line says the rest, and nothing is ever changed."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES, Hopline

ENTRY = [sys.executable, "-c", "from analysis.commands import main; main()"]
OK, PROBLEMS, USAGE, INPUT = range(4)
BUNDLE = SAMPLES / "iptables"
CAPTURE = BUNDLE / "node-a.pcap"
LINK_TYPE_AT = 20  # in a pcap file's header


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a sample's captures that a test may spoil."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in BUNDLE.glob("*.pcap"):
        shutil.copy(path, folder)
    return folder


def empty_folder(bundle: Path) -> Path:
    for path in bundle.iterdir():
        path.unlink()
    return bundle


def only(content: bytes, name: str = "node-a.pcap") -> Callable[[Path], Path]:
    def spoil(bundle: Path) -> Path:
        (empty_folder(bundle) / name).write_bytes(content)
        return bundle

    return spoil


NOTHING_TO_READ: tuple[tuple[str, Callable[[Path], Path], str], ...] = (
    ("no such folder", lambda bundle: bundle / "missing", "no such file or folder"),
    ("an empty folder", empty_folder, "no captures found (expected files such as node-a.pcap"),
    ("only metadata", only(b"{}", "cluster.json"), "no captures found"),
    ("an empty capture", only(b""), "node-a.pcap at 0: the file is empty"),
    ("text instead of a capture", only(b"a text\n" * 99), "not a capture: it starts with 61 20 74 65 (give pcap or pcapng"),
    ("damaged gzip", only(b"\x1f\x8b" + b"\xff" * 99, "node-a.pcap.gz"), "gzip stream is damaged"),
    ("what cannot be read", lambda _: Path("/proc/self/mem"), "mem at 0: cannot be read on: Input/output error"),
    ("a header and no packet", only(CAPTURE.read_bytes()[:24]), "no packets could be read"),
)


@pytest.mark.parametrize(("make", "said"), [case[1:] for case in NOTHING_TO_READ], ids=[case[0] for case in NOTHING_TO_READ])
@pytest.mark.parametrize("command", [["trace", "--json"], ["trace"], ["show"]], ids=["json", "table", "show"])
def test_nothing_to_read(command: list[str], make: Callable[[Path], Path], said: str, bundle: Path, hopline: Hopline) -> None:
    run = hopline(*command, make(bundle), *(["c1"] if command == ["show"] else []), columns=400)
    if command == ["show"]:
        assert run.code in (USAGE, INPUT)
        assert (run.out, run.err.count("\n")) == ("", 1)
        return
    assert run.code == INPUT
    assert run.err.splitlines()[-1].startswith("hopline: ")
    assert said in run.out + run.err
    if command == ["trace", "--json"]:
        assert run.out == ""


def cut_capture(bundle: Path) -> None:
    (bundle / "node-a.pcap").write_bytes(CAPTURE.read_bytes()[:50_000])


def half_written_metadata(bundle: Path) -> None:
    (bundle / "cluster.json").write_bytes(gzip.decompress((BUNDLE / "cluster.json.gz").read_bytes())[:40_000])


def duplicate(bundle: Path) -> None:
    shutil.copy(CAPTURE, bundle / "node-a-copy.pcap")


def unknown_link_type(bundle: Path) -> None:
    content = bytearray(CAPTURE.read_bytes())
    content[LINK_TYPE_AT : LINK_TYPE_AT + 4] = (9999).to_bytes(4, "little")
    (bundle / "node-a.pcap").write_bytes(content)


def text_among_captures(bundle: Path) -> None:
    (bundle / "node-d.pcap").write_text("not a capture\n")


def link_to_nowhere(bundle: Path) -> None:
    (bundle / "node-d.pcap").symlink_to(bundle / "gone")


def damaged_ledger(bundle: Path) -> None:
    (bundle / "node-a.conntrack-end.txt.gz").write_bytes(b"\x1f\x8b" + b"\xff" * 99)


def foreign_ledger(bundle: Path) -> None:
    (bundle / "node-a.conntrack-end.txt").write_text("conntrack v1.4.7: 12 flow entries have been shown.\nsomething else\n")


def damaged_settings(bundle: Path) -> None:
    (bundle / "bundle.toml").write_text("[nodes\n")


def foreign_rules(bundle: Path) -> None:
    (bundle / "node-a.iptables-save.txt").write_bytes(b"\xff\xfe rubbish\n")


DAMAGED: tuple[tuple[Callable[[Path], None], int, str], ...] = (
    (cut_capture, OK, ": the file ends in the middle of a record, after frame"),
    (half_written_metadata, OK, ": the List is cut off or damaged after"),
    (duplicate, OK, "node-a-copy.pcap: has the same content as node-a.pcap"),
    (unknown_link_type, OK, "node-a.pcap: unknown link type 9999"),
    (text_among_captures, PROBLEMS, "node-d.pcap at 0: not a capture"),
    (link_to_nowhere, PROBLEMS, "node-d.pcap: cannot be read: No such file or directory"),
    (damaged_ledger, PROBLEMS, "node-a.conntrack-end.txt.gz at 0: its compressed content is damaged"),
    (foreign_ledger, OK, "node-a.conntrack-end.txt"),
    (damaged_settings, PROBLEMS, "bundle.toml: cannot be read"),
    (foreign_rules, OK, "node-a.iptables-save"),
)


@pytest.mark.parametrize(("spoil", "code", "said"), DAMAGED, ids=[case[0].__name__ for case in DAMAGED])
def test_what_is_damaged_is_said_and_the_rest_is_used(
    spoil: Callable[[Path], None], code: int, said: str, bundle: Path, hopline: Hopline
) -> None:
    spoil(bundle)
    table = hopline("trace", bundle, columns=400)
    records = hopline("trace", bundle, "--json", columns=400)
    assert (table.code, records.code) == (code, code)
    for text in (table.out, records.err):
        assert sum(said in line for line in text.splitlines()) == 1, text
    assert len(records.out.splitlines()) > 15


def test_packets_of_an_unknown_link_type_alone_are_no_packets(bundle: Path, hopline: Hopline) -> None:
    unknown_link_type(bundle)
    run = hopline("trace", bundle / "node-a.pcap")
    assert "unknown link type 9999" in run.out
    assert "0 connections" in run.out


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_standard_input(pack: Callable[[bytes], bytes], hopline: Hopline) -> None:
    run = hopline("trace", "-", "--json", stdin=pack(CAPTURE.read_bytes()))
    assert run.code == OK
    piped, file = ([json.loads(line) for line in out.splitlines()] for out in (run.out, hopline("trace", CAPTURE, "--json").out))
    assert {hop["node"] for record in piped for hop in record["hops"]} == {"stdin"}
    assert [record["original"] for record in piped] == [record["original"] for record in file]


def test_standard_input_without_a_capture(hopline: Hopline) -> None:
    run = hopline("trace", "-", "--json", stdin=b"")
    assert (run.code, run.out) == (INPUT, "")
    assert "standard input at 0: the file is empty" in run.err


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe from which a capture comes, once."""
    os.mkfifo(path := tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", 'exec cat "$0" > "$1"', CAPTURE, path]) as writer:
        yield path
        writer.kill()


def test_a_pipe_is_read_where_once_will_do(pipe: Path, hopline: Hopline) -> None:
    piped, file = (hopline("trace", path, "--json", "--l4-only").out for path in (pipe, CAPTURE))
    assert [json.loads(line)["original"] for line in piped.splitlines()] == [json.loads(line)["original"] for line in file.splitlines()]


def test_a_pipe_is_refused_where_it_would_be_read_twice(pipe: Path, hopline: Hopline) -> None:
    run = hopline("trace", pipe, "--json")
    assert (run.code, run.out) == (INPUT, "")
    assert "pipe: a pipe can be read once" in run.err


def test_a_capture_of_no_telling_name_is_known_by_its_content(bundle: Path, hopline: Hopline) -> None:
    renamed = (bundle / "node-a.pcap").rename(bundle / "dump")
    assert hopline("trace", renamed, "--json").out.count("\n") == hopline("trace", CAPTURE, "--json").out.count("\n")


def test_the_input_is_never_changed(sample: Path, hopline: Hopline, tmp_path: Path) -> None:
    def state() -> list[tuple[str, int, str]]:
        files = sorted(path for path in sample.rglob("*") if path.is_file())
        return [(path.name, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]

    before = state()
    assert hopline("trace", sample, "--parquet", tmp_path / "tables", "--summary", tmp_path / "summary.json").code == OK
    assert hopline("show", sample, "c1").code == OK
    assert state() == before


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", CAPTURE.read_bytes()], ids=["empty", "PEM", "capture"])
def test_what_is_no_log_of_keys_is_refused(content: bytes, tmp_path: Path, hopline: Hopline) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(content)
    run = hopline("trace", BUNDLE, "--keys", keys)
    assert (run.code, run.out, "no TLS keys in it" in run.err) == (USAGE, "", True)


def test_an_archive_says_what_could_not_be_read(bundle: Path, tmp_path: Path, hopline: Hopline) -> None:
    cut_capture(bundle)
    (bundle / "cluster.json").write_bytes(b"")
    run = hopline("archive", bundle, "-o", tmp_path / "archive")
    assert run.code == PROBLEMS
    assert "node-a.pcap at 49" in run.err
    assert "cluster.json: the file is empty" in run.err


@pytest.mark.parametrize("option", [[], ["--parquet"], ["--summary"]], ids=["input", "parquet", "summary"])
def test_where_nobody_may_look_is_said(option: list[str], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if subprocess.run([*unprivileged, sys.executable, "-c", "import analysis"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("this checkout cannot be read without root's privileges, or they cannot be laid down")
    command = [*unprivileged, *ENTRY, "trace", "--l4-only", *([BUNDLE, *option] if option else []), locked / "node-a"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (USAGE, "")
    assert run.stderr == f"hopline: {locked / 'node-a'}: Permission denied (check its permissions and those of its folders)\n"


HOSTILE = "web\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\x7f\ud800-5gnzj"


def test_hostile_names_reach_nobody_raw(bundle: Path, hopline: Hopline, tmp_path: Path) -> None:
    """A pod's name comes from whoever wrote the dump: no escape of it may reach a terminal."""
    whole = json.loads(gzip.decompress((BUNDLE / "cluster.json.gz").read_bytes()))
    for item in whole["items"]:
        if item["kind"] in ("Pod", "Node", "Service"):
            item["metadata"]["name"] = HOSTILE
        for container in item.get("spec", {}).get("containers", []):
            container["name"] = HOSTILE
    (bundle / "cluster.json").write_text(json.dumps(whole))
    (bundle / "node-a.pcap").rename(bundle / "node-a\x1b[2J\u202e.pcap")
    (bundle / "node-b\x1b[2J.pcap").write_text("not a capture")
    runs = [hopline("trace", bundle, columns=columns) for columns in (80, 400)]
    runs += [hopline("trace", bundle, "--json"), *(hopline("show", bundle, f"c{number}") for number in range(1, 20))]
    runs.append(hopline("trace", bundle, "--summary", tmp_path / "summary.json", "--parquet", tmp_path / "tables"))
    texts = [text for run in runs for text in (run.out, run.err)] + [(tmp_path / "summary.json").read_text()]
    for text in texts:
        assert {character for character in text if not (character.isprintable() or character == "\n")} == set()
    assert "\\x1b[2J" in runs[1].out
