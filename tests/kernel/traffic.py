"""Connections between places of the lab, and the truth about them: what the sockets at both ends saw."""

from __future__ import annotations

import errno
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from .lab import Lab
from .services import MACHINES, OUTSIDE_PORT, PODS

FAMILIES = (socket.AF_INET, socket.AF_INET6)
ICMP, ICMPV6, ECHO, ECHO_V6 = 1, 58, 8, 128
WAIT_SECONDS = 60.0  # of patience, with a machine that is busy
SYN_TWICE_SECONDS = 1.6  # the second SYN goes out after one second (RFC 6298, 2.1)

SAME_ANSWER = b"!"  # in a datagram: answer what everybody gets, so that no answer tells whose it is

End = tuple[str, int]


@dataclass(slots=True)
class Attempt:
    """One connection as its client saw it; `server_local` and `server_peer` as its server did, None where none did."""

    case: str
    token: str
    proto: str
    family: int  # 0: IPv4, 1: IPv6
    place: str
    local: End
    target: End
    started_ns: int = 0
    outcome: str = "open"
    server_place: str | None = None
    server_local: End | None = None
    server_peer: End | None = None

    @property
    def original(self) -> tuple[str, str]:
        return text(self.local), text(self.target)

    @property
    def translated(self) -> tuple[str, str] | None:
        return None if self.server_peer is None or self.server_local is None else (text(self.server_peer), text(self.server_local))


def text(end: End) -> str:
    """`address:port` as hopline writes it."""
    address, port = end
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def address_of(place: str, family: int) -> str:
    """The address of a machine or pod."""
    return (MACHINES.get(place) or PODS[place]).addresses[family]


@dataclass(slots=True)
class Traffic:
    """Servers that are running, and everything that was attempted so far."""

    lab: Lab
    attempts: list[Attempt] = field(default_factory=list)
    seen: dict[str, tuple[str, End, End]] = field(default_factory=dict)  # token: server's place, its own end, its peer
    tokens: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    _used: set[tuple[str, int, End]] = field(default_factory=set)

    def bind(self, mine: socket.socket, place: str, port: int = 0) -> End:
        """Give a socket its own address, and a port that none had before unless `port` is given: one tuple, one connection."""
        family = int(mine.family == socket.AF_INET6)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with self.lab.socket(place, mine.family, mine.type, mine.proto) as other:
                try:
                    other.bind((address_of(place, family), port))
                except OSError as error:  # the last one with this port waits for its FIN to be acknowledged
                    if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                        raise
                    time.sleep(0.001)
                    continue
                local = other.getsockname()[:2]
            if port or (place, mine.type, local) not in self._used:
                break
        self._used.add((place, mine.type, local))
        mine.bind(local)
        return local

    def settle(self) -> None:
        """Give every attempt what its server saw."""
        for attempt in self.attempts:
            if attempt.token in self.seen:
                attempt.server_place, attempt.server_local, attempt.server_peer = self.seen[attempt.token]

    def begin(self, case: str, proto: str, place: str, target: End, local: End) -> Attempt:
        """Note an attempt."""
        family = int(":" in target[0])
        attempt = Attempt(case, f"t{next(self.tokens):06}", proto, family, place, local, target, time.time_ns())
        self.attempts.append(attempt)
        return attempt

    def tcp(self, case: str, place: str, target: End, *, size: int = 100, port: int = 0, seconds: float = WAIT_SECONDS) -> Attempt:
        """Connect, ask for `size` bytes, read them to the end."""
        family = int(":" in target[0])
        with self.lab.socket(place, FAMILIES[family], socket.SOCK_STREAM) as mine:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            mine.settimeout(seconds)
            attempt = self.begin(case, "tcp", place, target, self.bind(mine, place, port))
            try:
                mine.connect(target)
                mine.sendall(f"{attempt.token} {size}\n".encode())
                received = sum(map(len, iter(lambda: mine.recv(1 << 16), b"")))
                attempt.outcome = "closed" if received == size else f"only {received} bytes"
            except ConnectionRefusedError:
                attempt.outcome = "refused"
            except TimeoutError:
                attempt.outcome = "timeout"
            except OSError as error:  # EHOSTUNREACH, ENETUNREACH: an ICMP error's work
                attempt.outcome = "refused" if "unreachable" in str(error).lower() or "No route" in str(error) else str(error)
        return attempt

    def udp(self, case: str, place: str, target: End, *, size: int = 100, seconds: float = WAIT_SECONDS, mark: bytes = b"") -> Attempt:
        """Send a datagram of `size` bytes with `mark` in it, wait for one as long."""
        family = int(":" in target[0])
        with self.lab.socket(place, FAMILIES[family], socket.SOCK_DGRAM) as mine:
            mine.settimeout(seconds)
            attempt = self.begin(case, "udp", place, target, self.bind(mine, place))
            mine.connect(target)
            try:
                mine.send((attempt.token.encode() + mark).ljust(size, b"."))
                attempt.outcome = "closed" if len(mine.recv(1 << 16)) == size else "cut"
            except ConnectionRefusedError:
                attempt.outcome = "refused"
            except TimeoutError:
                attempt.outcome = "open"
        return attempt

    def ping(self, case: str, place: str, target: str, *, count: int = 3) -> Attempt:
        """Echo requests from a ping socket, whose port is the identifier; hopline shows it as the port of both ends."""
        family = int(":" in target)
        protocol, kind = ((ICMP, ECHO), (ICMPV6, ECHO_V6))[family]
        with self.lab.socket(place, FAMILIES[family], socket.SOCK_DGRAM, protocol) as mine:
            mine.settimeout(WAIT_SECONDS)
            local = self.bind(mine, place)
            attempt = self.begin(case, ("icmp", "icmpv6")[family], place, (target, local[1]), local)
            for sequence in range(count):
                mine.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, sequence) + attempt.token.encode(), (target, 0))
                if attempt.token.encode() in mine.recv(1 << 10):
                    attempt.outcome = "closed"
        return attempt


class Listener:
    """A thread that calls `serve` until `done`."""

    def __init__(self, listening: socket.socket, serve: Callable[[socket.socket], None], done: threading.Event) -> None:
        self._socket, self._serve, self._done = listening, serve, done
        listening.settimeout(0.1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            with suppress(TimeoutError, ConnectionError):
                self._serve(self._socket)

    def stop(self) -> None:
        """Wait for the thread, then close the socket."""
        self._done.set()
        self._thread.join(WAIT_SECONDS)
        self._socket.close()


def _answer_stream(traffic: Traffic, place: str, connected: socket.socket) -> None:
    """The server closes first, so that the client's port is free again at once."""
    with connected:
        connected.settimeout(WAIT_SECONDS)
        line = b""
        while not line.endswith(b"\n"):
            more = connected.recv(100)
            if not more:
                return
            line += more
        token, size = line.split()
        traffic.seen[token.decode()] = place, connected.getsockname()[:2], connected.getpeername()[:2]
        connected.sendall(b"x" * int(size))


def _serve_stream(traffic: Traffic, place: str) -> Callable[[socket.socket], None]:
    def serve(listening: socket.socket) -> None:
        connected, _ = listening.accept()
        threading.Thread(target=_answer_stream, args=(traffic, place, connected), daemon=True).start()

    return serve


def _serve_datagrams(traffic: Traffic, place: str) -> Callable[[socket.socket], None]:
    def serve(bound: socket.socket) -> None:
        datagram, peer = bound.recvfrom(1 << 16)
        traffic.seen[datagram[:7].decode()] = place, bound.getsockname()[:2], peer[:2]
        same = SAME_ANSWER in datagram
        bound.sendto(b"answer".ljust(len(datagram), b".") if same else b"re " + datagram[:-3], peer)

    return serve


def _watch_echoes(traffic: Traffic, place: str, family: int) -> Callable[[socket.socket], None]:
    """The kernel answers; a raw socket tells what reached it. IPv4's has the IP header in front."""

    def watch(raw: socket.socket) -> None:
        packet, peer = raw.recvfrom(1 << 12)
        header = (packet[0] & 15) * 4 if family == 0 else 0
        if packet[header] == (ECHO, ECHO_V6)[family]:
            identifier = struct.unpack_from("!H", packet, header + 4)[0]
            traffic.seen[packet[header + 8 :].decode()] = place, (address_of(place, family), identifier), (peer[0], identifier)

    return watch


@contextmanager
def servers(lab: Lab) -> Iterator[Traffic]:
    """Servers in every pod and on the client's machine while the block runs."""
    traffic, done = Traffic(lab), threading.Event()
    with ExitStack() as running:
        for place in (*PODS, "client"):
            streams, datagrams = ((OUTSIDE_PORT,), (OUTSIDE_PORT,)) if place == "client" else ((8080, 5432), (5353,))
            for family, kind in enumerate(FAMILIES):
                here = address_of(place, family)
                for port in streams:
                    listening = lab.socket(place, kind, socket.SOCK_STREAM)
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listening.bind((here, port))
                    listening.listen(128)
                    running.callback(Listener(listening, _serve_stream(traffic, place), done).stop)
                for port in datagrams:
                    bound = lab.socket(place, kind, socket.SOCK_DGRAM)
                    bound.bind((here, port))
                    running.callback(Listener(bound, _serve_datagrams(traffic, place), done).stop)
                raw = lab.socket(place, kind, socket.SOCK_RAW, (ICMP, ICMPV6)[family])
                running.callback(Listener(raw, _watch_echoes(traffic, place, family), done).stop)
        try:
            yield traffic
        finally:
            done.set()
        traffic.settle()
