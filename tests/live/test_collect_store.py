"""Recordings on a node: real processes that outlive their caller."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.live import store as store_module
from probes.live.store import Store, StoreError

from .collected import PATIENCE_SECONDS
from .server import ROOT


def script(text: str) -> Callable[[Path], list[str]]:
    """A recorder in shell; `$1` is where it writes."""
    return lambda folder: ["sh", "-c", text, "recorder", str(folder)]


def wait(store: Store, name: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while store.running(name):
        assert time.monotonic() < deadline
        time.sleep(0.01)


UNTIL_STOPPED = script('trap "echo ended >&2; echo whole >\\"$1/file\\"; exit 0" INT; echo began >&2; while :; do sleep 0.05; done')


def test_a_recording_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from probes.live.store import Store
command = ["sh", "-c", "until [ -e $0/../../go ]; do sleep 0.02; done; echo found >$0/file; echo said >&2; exit 7"]
assert Store(Path({str(tmp_path)!r})).start("one", lambda folder: [*command, str(folder)])
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, timeout=PATIENCE_SECONDS)
    store = Store(tmp_path)
    assert (store.running("one"), store.code("one")) == (True, None)
    (tmp_path / "go").touch()
    assert [line for line in store.lines("one", 0) if line] == [b"said\n"]
    assert (store.running("one"), store.code("one")) == (False, 7)
    assert b"".join(store.content("one", 0)) == b"found\n"


def test_asking_twice_starts_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    count = script('echo x >>"$1/../../count"')
    assert [store.start("one", count), store.start("one", count)] == [True, False]
    wait(store, "one")
    assert (tmp_path / "count").read_text() == "x\n"


def test_stopping_lets_the_recorder_end_its_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start("one", UNTIL_STOPPED)
    lines = (line for line in store.lines("one", 0) if line)
    assert next(lines) == b"began\n"
    with pytest.raises(StoreError, match="still recording"):
        list(store.files("one"))
    assert store.stop("one", PATIENCE_SECONDS)
    assert list(lines) == [b"ended\n"]
    assert (store.code("one"), [file.name for file in store.files("one")]) == (0, ["file"])
    assert not store.stop("one", 5.0)


def test_a_recorder_that_will_not_end_is_killed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start("one", script('trap "" INT; echo began >&2; while :; do sleep 0.05; done'))
    assert next(line for line in store.lines("one", 0) if line)
    began = time.monotonic()
    store.stop("one", 0.5)
    assert time.monotonic() - began >= 0.5
    assert (store.running("one"), store.code("one")) == (False, None)


def test_lines_are_followed_from_where_they_were_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start("one", script("for n in $(seq 23); do echo line $n >&2; done; printf half >&2"))
    wait(store, "one")
    whole = [line for line in store.lines("one", 0) if line]
    assert whole == [*(b"line %d\n" % number for number in range(1, 24)), b"half"]
    position = 0
    for number, line in enumerate(whole):
        assert [each for each in store.lines("one", position) if each] == whole[number:]
        position += len(line)


def test_content_is_the_files_one_after_another_from_any_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_BYTES", 7)
    store = Store(tmp_path)
    store.start("one", script("true"))
    wait(store, "one")
    source = random.Random(23)
    bundle = tmp_path / "one" / "bundle"
    (bundle / "node-a").mkdir()
    for name, size in (("node-a/2.pcapng", 23), ("node-a/1.pcapng", 101), ("empty", 0), ("node-a.json", 5), ("z", 1)):
        (bundle / name).write_bytes(source.randbytes(size))
    (bundle / "elsewhere").symlink_to("/etc/hostname")
    files = list(store.files("one"))
    assert [(file.name, file.size_bytes) for file in files] == [
        ("empty", 0),
        ("node-a/1.pcapng", 101),
        ("node-a/2.pcapng", 23),
        ("node-a.json", 5),
        ("z", 1),
    ]
    whole = b"".join((bundle / file.name).read_bytes() for file in files)
    for position in range(len(whole) + 2):
        assert b"".join(store.content("one", position)) == whole[position:]


def test_removing_ends_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start("one", UNTIL_STOPPED)
    assert next(line for line in store.lines("one", 0) if line)
    group, _ = (tmp_path / "one" / "session").read_text().split()
    assert [store.remove("one", 5.0), store.remove("one", 5.0)] == [True, False]
    assert list(tmp_path.iterdir()) == []
    stat = Path(f"/proc/{group}/stat")
    assert not stat.exists() or ") Z " in stat.read_text()


def test_what_nobody_fetches_goes_after_a_while_but_never_what_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("old", "killed"):
        store.start(name, script("true") if name == "old" else UNTIL_STOPPED)
    store.start("runs", UNTIL_STOPPED)
    wait(store, "old")
    os.killpg(int((tmp_path / "killed" / "session").read_text().split()[0]), signal.SIGKILL)
    wait(store, "killed")
    now = time.time()
    assert store.expire(60.0, now) == []
    assert store.expire(60.0, now + 61) == ["killed", "old"]
    assert store.names() == ["runs"]
    store.remove("runs", 5.0)


def test_a_process_id_given_to_another_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start("one", script("true"))
    wait(store, "one")
    (tmp_path / "one" / "exit").unlink()
    with subprocess.Popen(["sleep", "30"], start_new_session=True) as other:
        (tmp_path / "one" / "session").write_text(f"{other.pid} 1")
        assert not store.running("one")
        store.remove("one", 0.2)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../etc", "a\n", "x" * 101])
def test_names_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no name"):
        Store(tmp_path / "store").start(name, script("true"))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store"):
        Store(tmp_path / "file").start("one", script("true"))
