"""In which order threads read and write, told by the running kernel."""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from probes.live.bpf import BpfError, Program
from probes.live.clock import Clock
from probes.live.sockets import ThreadProbe
from probes.live.sockets.threads import RING_BYTES, SOURCE, USE
from probes.threads import READ, WRITE, read_uses

ROUNDS, THREADS = 23, 5
SO_COOKIE = 57
LINE = '{"time_ns": 1, "way": "read", "thread": 2, "socket": 3, "bytes": 4}\n'


def probe(path: Path, ring_bytes: int = RING_BYTES) -> ThreadProbe:
    try:
        return ThreadProbe(path, Clock(), ring_bytes=ring_bytes)
    except (BpfError, OSError) as error:
        pytest.skip(str(error))


def cookie(of: socket.socket) -> int:
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def test_each_thread_s_reads_and_writes_are_in_order(tmp_path: Path) -> None:
    """Threads pass bytes on from one connection to another, as a proxy does; one connection was there before the probe."""
    expected: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    datagrams = {}

    def passes_on(server: socket.socket, first: socket.socket | None) -> None:
        thread = threading.get_native_id()
        own = first or socket.create_connection(server.getsockname())
        with own, own.dup() as again:
            for number in range(1, ROUNDS + 1):
                own.sendall(b"x" * number)
                expected[thread].append((WRITE, cookie(own), number))
                assert len(again.recv(100)) == 2 * number
                expected[thread].append((READ, cookie(own), 2 * number))
        with socket.socket(type=socket.SOCK_DGRAM) as asking, socket.socket(type=socket.SOCK_DGRAM) as answering:
            answering.bind(("127.0.0.1", 0))
            asking.sendto(b"hello", answering.getsockname())
            expected[thread].append((WRITE, cookie(asking), 5))
            datagrams[thread] = cookie(answering)  # never sent: not known by any packet of its own
            answering.recv(5)

    def answers(accepted: socket.socket) -> None:
        thread = threading.get_native_id()
        with accepted:
            while received := accepted.recv(100):
                expected[thread].append((READ, cookie(accepted), len(received)))
                accepted.sendall(received * 2)
                expected[thread].append((WRITE, cookie(accepted), 2 * len(received)))

    with socket.create_server(("127.0.0.1", 0)) as server:
        before = socket.create_connection(server.getsockname())
        serving = [threading.Thread(target=answers, args=(server.accept()[0],))]
        watching = probe(tmp_path / "node-a.threads.jsonl")
        asking = [threading.Thread(target=passes_on, args=(server, before if not number else None)) for number in range(THREADS)]
        for each in asking:
            each.start()
        serving += [threading.Thread(target=answers, args=(server.accept()[0],)) for _ in range(THREADS - 1)]
        for each in serving:
            each.start()
        for each in (*asking, *serving):
            each.join()
        watching.drain()
        watching.close()
    uses, problems = read_uses((tmp_path / "node-a.threads.jsonl").read_bytes(), "node-a.threads.jsonl")
    assert problems == []
    counters = watching.counters()
    assert counters["seen"] == counters["written"] == len(uses["way"])
    assert len(expected) == 2 * THREADS
    for thread, order in expected.items():
        mine = np.flatnonzero((uses["thread"] == thread) & (uses["cookie"] != datagrams.get(thread, 0)))
        assert (np.diff(uses["time_ns"][mine]) > 0).all()
        assert list(zip(*(uses[name][mine].tolist() for name in ("way", "cookie", "bytes")), strict=True)) == order


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    watching = probe(tmp_path / "few.jsonl", ring_bytes=4096)
    one, other = socket.socketpair()  # these are no network's: not told
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client, one, other:
        one.send(b"x")
        for _ in range(1001):
            client.send(b"x")
        watching.drain()
        client.send(b"x")
        watching.close()
    counters = watching.counters()
    uses = read_uses((tmp_path / "few.jsonl").read_bytes(), "few.jsonl")[0]
    lost = uses["way"] == 0
    assert counters["seen"] == counters["written"] + counters["dropped"] >= 1002
    assert (int(uses["bytes"][lost].sum()), int(np.count_nonzero(~lost))) == (counters["dropped"], counters["written"])
    assert counters["dropped"] > 0
    assert np.flatnonzero(lost)[0] == np.flatnonzero(uses["time_ns"] <= uses["time_ns"][lost][0])[-1]  # behind the last before it was full


def test_the_record_is_what_the_reader_takes_it_for(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    source.write_text(f"{SOURCE.read_text()}\nBPF_ARRAY(layout, struct use, 1);\n")
    try:
        program = Program(source, {"RING_PAGES": 16})
    except BpfError as error:
        pytest.skip(str(error))
    with program:
        leaf = program.map("layout").Leaf
        fields = {name: (getattr(leaf, name).offset, getattr(leaf, name).size) for name, *_ in leaf._fields_}
    assert fields == {name: (offset, np.dtype(kind).itemsize) for name, (kind, offset, *_) in (USE.fields or {}).items()}


@pytest.mark.parametrize(
    ("content", "rows", "said"),
    [
        ("", 0, []),
        (f'{LINE}{{"time_ns": 9, "way": "lost", "count": 23}}\n', 2, []),
        (f'{LINE}{{"time_ns": 9, "wa', 1, ["the last line has no end and is left out"]),
        ('{"time_ns": 1, "way": "sold"}\n{}\n', 0, ["2 lines are not reads and writes in JSON; the first is line 1"]),
        ('{"time_ns": true, "way": "lost", "count": 1}\n', 0, ["1 line is not reads and writes in JSON; the first is line 1"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(content: str, rows: int, said: list[str]) -> None:
    uses, problems = read_uses(content.encode(), "node-a.threads.jsonl")
    assert (len(uses["way"]), [problem.what for problem in problems]) == (rows, said)
