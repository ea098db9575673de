"""What is kept from run to run never changes an answer: outputs with and without, byte by byte, whatever was altered in between."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES, Hopline, Run

from analysis.cache import Answers, Question, Store, open_store
from analysis.cache import digests as digests_
from analysis.cache.digests import Digests
from analysis.cache.protocols import key_of_protocols
from tracer.requests import RequestTrace, trace_requests
from tracer.trace import trace

SAMPLE = SAMPLES / "ipvs"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HOPLINE_CACHE", str(tmp_path / "cache"))
    opened = open_store()
    assert opened is not None
    return opened


def test_tshark_is_asked_once_what_it_dissects(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another bundle as well; but not where nothing is kept."""
    log, program = tmp_path / "log", shutil.which("tshark")
    (tmp_path / "tshark").write_text(f'#!/bin/sh\necho "$1" >> {log}\nexec {program} "$@"\n')
    (tmp_path / "tshark").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = [sys.executable, "-c", "from analysis.commands import main; main()", "trace", "--json"]
    anew, kept = (
        [
            subprocess.run([*command, SAMPLES / name, *more], cwd=ROOT, capture_output=True, check=True).stdout
            for name in ("ipvs", "nftables")
        ]
        for more in (["--no-cache"], [])
    )
    assert anew == kept
    assert log.read_text().split().count("-G") == 2 + 1
    store.path(key_of_protocols()).write_bytes(b"damaged")
    for name in ("failures", "iptables"):
        subprocess.run([*command, SAMPLES / name, "--limit", "1"], cwd=ROOT, capture_output=True, check=True)
    assert log.read_text().split().count("-G") == 2 + 1 + 1, "what is damaged is replaced"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the sample, long enough ago, with its cluster in plain text."""
    folder = tmp_path / "bundle"
    shutil.copytree(SAMPLE, folder)
    (folder / "cluster.json").write_bytes(gzip.decompress((folder / "cluster.json.gz").read_bytes()))
    (folder / "cluster.json.gz").unlink()
    return folder


def names(store: Store) -> list[str]:
    """All but what tshark dissects, which is no answer."""
    return sorted(path.name for path, _ in store.entries() if path != store.path(key_of_protocols()))


def test_a_second_run_says_the_same_and_reads_no_packet(hopline: Hopline, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("trace", SAMPLE, "--json"),
        ("trace", SAMPLE, "--limit", "3"),
        ("trace", SAMPLE, "--json", "--service", "demo/*"),
        ("explain", SAMPLE, "t1", "--no-packets", "--json"),
        ("report", SAMPLE, "-o", "-"),
        ("compare", SAMPLE, SAMPLE, "--json"),
    )
    anew = [hopline(*command, "--no-cache") for command in commands]
    assert names(store) == [], "--no-cache keeps nothing"
    assert [hopline(*command) for command in commands] == anew
    assert len(names(store)) == 5, "requests, records, a page, two sides"

    def never(*_paths: object, **_options: object) -> None:
        pytest.fail("read again")

    monkeypatch.setattr("analysis.commands.options.open_input", never)
    assert [hopline(*command) for command in commands] == anew
    assert all(run.code == 0 and run.out for run in anew)


def renamed(bundle: Path) -> None:
    """Another name of equal length, and as far as `ls -l` can tell nothing happened."""
    path = bundle / "cluster.json"
    before, content = path.stat(), path.read_bytes()
    assert b'"demo"' in content
    path.write_bytes(content.replace(b'"demo"', b'"demi"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def shortened(bundle: Path) -> None:
    path = bundle / "node-c.pcap.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-200]))


def told_of(bundle: Path) -> None:
    (bundle / "bundle.toml").write_text('[nodes]\nnode-a = "first"\n')


def removed(bundle: Path) -> None:
    (bundle / "node-b.links.txt").unlink()


@pytest.mark.parametrize("alter", [renamed, shortened, told_of, removed])
def test_what_is_altered_is_read_again(hopline: Hopline, store: Store, bundle: Path, alter: Callable[[Path], None]) -> None:
    before = hopline("trace", bundle, "--json")
    alter(bundle)
    now = hopline("trace", bundle, "--json")
    assert now == hopline("trace", bundle, "--json", "--no-cache")
    assert now != before
    assert len(names(store)) == 4


def test_every_option_that_matters_has_its_own_answer(hopline: Hopline, store: Store, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"CLIENT_RANDOM {'0' * 64} {'0' * 96}\n")
    options: tuple[tuple[str | Path, ...], ...] = (
        (), ("--no-ledger",), ("--no-rules",), ("--no-cluster",), ("--min-confidence", "1"), ("--keys", keys),
    )  # fmt: skip
    runs = [hopline("trace", SAMPLE, "--json", *option) for option in options]
    assert runs[:-1] == [hopline("trace", SAMPLE, "--json", *option, "--no-cache") for option in options[:-1]]
    assert len({run.out for run in runs[:5]}) == 5
    keys.write_text(f"CLIENT_RANDOM {'1' * 64} {'0' * 96}\n")
    kept = len(names(store))
    hopline("trace", SAMPLE, "--json", "--keys", keys)
    assert len(names(store)) == kept + 2, "the same name, other keys"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-1], lambda _content: b"", lambda content: content + b"\0"])
def test_a_damaged_entry_is_found_anew_and_replaced(store: Store, damage: Callable[[bytes], bytes]) -> None:
    value = {"what": list(range(1000))}
    store.keep("k", value)
    sound = store.path("k").read_bytes()
    assert store.load("k") == value
    store.path("k").write_bytes(damage(sound))
    assert store.load("k") is None
    store.keep("k", value)
    assert store.path("k").read_bytes() == sound


def test_an_entry_under_another_name_is_not_taken(store: Store) -> None:
    store.keep("one", 1)
    shutil.copy(store.path("one"), store.path("two"))
    assert (store.load("one"), store.load("two"), store.load("three")) == (1, None, None)


def test_what_was_not_used_for_longest_leaves_first(tmp_path: Path) -> None:
    store = Store(tmp_path, most_bytes=2500, most_of_entry=2000)
    for place, key in enumerate(("a", "b", "c")):
        store.keep(key, os.urandom(700))
        os.utime(store.path(key), ns=(place, place))
    assert store.load("a") is not None
    store.keep("d", os.urandom(700))
    assert names(store) == ["a.found", "c.found", "d.found"], "b was not asked for"
    store.keep("e", os.urandom(2001))
    assert names(store) == ["a.found", "c.found", "d.found"], "too large to be kept"
    assert len(list(tmp_path.iterdir())) == 3, "nothing is left half written"


def test_only_a_folder_of_ones_own_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPLINE_CACHE", str(tmp_path / "open"))
    (tmp_path / "open").mkdir(mode=0o700)
    assert open_store() is not None
    (tmp_path / "open").chmod(0o770)
    assert open_store() is None
    monkeypatch.delenv("HOPLINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    opened = open_store()
    assert opened is not None
    assert opened.folder == tmp_path / "xdg" / "hopline" / "found"
    assert opened.folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_store() is None, "no folder can be made there, which is no error"


def test_standard_input_is_not_kept(hopline: Hopline, store: Store) -> None:
    packets = gzip.decompress((SAMPLE / "node-a.pcap.gz").read_bytes())
    run: Run = hopline("trace", "-", "--json", stdin=packets)
    assert run.code == 0
    assert names(store) == []


def test_without_tshark_nothing_is_kept(hopline: Hopline, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.dissect.tshark.find_tshark", lambda: None)
    assert hopline("trace", SAMPLE, "--json").code == 0
    assert names(store) == []


def test_what_changes_while_it_is_read_is_not_kept(store: Store, bundle: Path) -> None:
    from tracer.bundle import read_bundle  # noqa: PLC0415

    def find() -> RequestTrace:
        found = trace_requests(trace(read_bundle([bundle])))
        with (bundle / "node-a.conntrack-events.txt").open("ab") as ledger:
            ledger.write(b"\n")
        return found

    first = Answers(Question([bundle]), store, find)
    assert first.made("count", lambda found: len(found.trace.named)) > 0
    assert names(store) == []


def test_a_file_is_read_once_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    digest = hashlib.file_digest

    def counted(stream: BufferedReader, kind: str) -> object:
        read.append(stream.name)
        return digest(stream, kind)

    monkeypatch.setattr("hashlib.file_digest", counted)
    monkeypatch.setattr(digests_, "SETTLED_NS", -1)
    path = tmp_path / "some"
    path.write_bytes(b"one")
    for _ in range(2):
        known = Digests(tmp_path)
        assert known.of(path) == hashlib.sha256(b"one").hexdigest()
        known.keep()
    assert len(read) == 1
    path.write_bytes(b"two")
    assert Digests(tmp_path).of(path) == hashlib.sha256(b"two").hexdigest()
    (tmp_path / "digests.json").write_text("[1")
    assert Digests(tmp_path).of(path) == hashlib.sha256(b"two").hexdigest()


def test_what_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(b"one")
    fresh = Digests(tmp_path)
    fresh.of(tmp_path / "some")
    fresh.keep()
    assert not (tmp_path / "digests.json").exists(), "it may change again without its times telling"
