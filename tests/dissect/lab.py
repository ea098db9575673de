"""Servers on free ports, tcpdump beside them, and what hopline reads in the capture."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from probes.dissect import Exchange, Piece, read_exchanges
from tracer.bundle import read_bundle
from tracer.requests.dissection import dissect
from tracer.requests.payloads import payloads
from tracer.requests.pieces import pieces
from tracer.trace import trace

WAIT_SECONDS = 120  # of patience, with a machine that is busy
_CAPTURED = re.compile(r"(\d+) packets? captured")
_DROPPED = re.compile(r"(\d+) packets? dropped by kernel")


def needs(*programs: str) -> None:
    """Skip the test where a program is missing, and say how to get it."""
    missing = [program for program in ("tshark", "tcpdump", *programs) if which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (make test installs them)")


def until(ready: Callable[[], bool], what: str) -> None:
    """Wait for `ready`; an error of the connection counts as not yet."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{what} is not ready after {WAIT_SECONDS} s")


def answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@contextmanager
def running(
    command: Sequence[str | Path], *, port: int = 0, log: Path, ends: signal.Signals = signal.SIGTERM, **more: object
) -> Iterator[int]:
    """A server that runs inside the `with` block and listens on `port` when it begins; gives its process id."""
    with log.open("wb") as output, subprocess.Popen([str(word) for word in command], stdout=output, stderr=output, **more) as process:  # type: ignore[call-overload]
        try:
            if port:
                until(lambda: process.poll() is not None or answers(port), str(command[0]))
            assert process.poll() is None, f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}"
            yield int(process.pid)
        finally:
            if process.poll() is None:
                process.send_signal(ends)
                try:
                    process.wait(WAIT_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def recorded(path: Path, *ports: int, snaplen: int = 262_144) -> Iterator[None]:
    """What passes these ports of the loopback interface during the `with` block is in the capture `path`."""
    ports_ = " or ".join(f"port {port}" for port in ports)
    command = ["tcpdump", "-i", "lo", "-n", "-U", "--immediate-mode", "-B", "65536", "-s", str(snaplen), "-w", str(path), ports_]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stderr is not None
        while "listening on" not in (line := tcpdump.stderr.readline()):
            assert line, "tcpdump ended"
        try:
            yield
        finally:
            written = -1
            while written < (written := path.stat().st_size):
                time.sleep(0.15)  # the last packets of closed connections
            tcpdump.send_signal(signal.SIGINT)
            said = tcpdump.stderr.read()
    dropped = _DROPPED.search(said)
    assert _CAPTURED.search(said), said
    assert dropped is None or dropped[1] == "0", said


@dataclass
class Conversation:
    """A connection as hopline read it: its exchanges and, to compare places with, the bytes that each side sent."""

    server_port: int
    protocol: str | None
    unread: str | None
    exchanges: list[Exchange]
    pieces: list[Piece] = field(default_factory=list)

    def bytes_at(self, start: int, end: int, *, forward: bool) -> bytes:
        """What a side sent between two places of its stream."""
        parts = ((piece.offset, piece.payload) for piece in self.pieces if piece.forward == forward and start >= 0)
        return b"".join(part[max(start - at, 0) : max(end - at, 0)] for at, part in sorted(parts))

    def request(self, exchange: Exchange) -> bytes:
        return self.bytes_at(exchange.request_start, exchange.request_end, forward=True)

    def response(self, exchange: Exchange) -> bytes:
        return self.bytes_at(exchange.response_start, exchange.response_end, forward=False)

    def said(self) -> list[tuple[str | None, str | None]]:
        """(operation, status) of each exchange."""
        return [(exchange.operation, exchange.status) for exchange in self.exchanges]


def conversations(capture: Path, keys: Path | None = None) -> list[Conversation]:
    """The connections in `capture`, in order of their first packets, taken through the whole pipeline."""
    bundle = read_bundle([capture])
    traced = trace(bundle).tables
    found = dissect(bundle, traced, keys=keys)
    assert found.problem is None, found.problem
    count = len(traced.connections["original"])
    talks = [
        Conversation(
            int(traced.tuples["dport"][traced.connections["first_seen"][row]]), found.protocols.get(row), found.unread.get(row),
            found.exchanges.get(row, []),
        )
        for row in range(count)
    ]  # fmt: skip
    table = pieces(found.segments, traced.observations, np.ones(count, bool))
    content = payloads(bundle, table["row"], table["skip"], table["size"])
    names = ("connection", "reply", "offset", "wire", "time_ns", "fin", "stream")
    for part, *row in zip(content, *(table[name].tolist() for name in names), strict=True):
        connection, reply, offset, wire, time_ns, fin, stream = row
        talks[connection].pieces.append(Piece(connection, not reply, offset, part, wire, time_ns, bool(fin), bool(stream)))
    return talks


def conversation(capture: Path) -> Conversation:
    """The connection of which most was said: waiting for a server to be ready leaves others."""
    return max(conversations(capture), key=lambda talk: sum(piece.wire for piece in talk.pieces))


def reread(variants: Iterable[list[Piece]], protocol: str) -> list[list[Exchange]]:
    """The exchanges of each list of pieces, read as connections of their own in one go."""
    lists = list(variants)
    pieces_ = [replace(piece, connection=number) for number, variant in enumerate(lists) for piece in variant]
    found = read_exchanges(pieces_, dict.fromkeys(range(len(lists)), protocol))
    return [found.get(number, []) for number in range(len(lists))]
