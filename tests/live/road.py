"""A road through NAT: client, router and server in namespaces of their own; the router translates both ends, and is what is recorded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from probes import addresses
from probes.capture import Capture, read_capture
from probes.live.namespaces import inside

NETNS = Path("/run/netns")
CLIENT, SERVER, VIP, ROUTER = "10.9.1.2", "10.9.2.2", "10.96.0.1", "10.9.2.1"
PORT, TARGET = 80, 8080
SECONDS = 180  # of patience, with a machine that is busy
RECORD = (sys.executable, "-c", "from analysis.commands import main; main()", "record")


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class Road:
    """Running; `prefix` begins the names of its namespaces."""

    prefix: str

    def netns(self, place: str) -> Path:
        return NETNS / f"{self.prefix}-{place}"

    def command(self, place: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.netns(place).name, *words]

    def run(self, place: str, *words: str) -> str:
        return subprocess.run(self.command(place, *words), check=True, capture_output=True, text=True).stdout

    def ask(self, count: int, size: int = 100) -> list[int]:
        """`count` TCP connections to the VIP, one after the other, each an answer of `size` bytes; the clients' ports."""
        ports = []
        for _ in range(count):
            with inside(self.netns("client")):
                mine = socket.socket()
            with mine:
                mine.settimeout(SECONDS)
                mine.connect((VIP, PORT))
                mine.sendall(b"%d\n" % size)
                while mine.recv(1 << 16):
                    pass
                ports.append(mine.getsockname()[1])
        return ports

    def send(self, payloads: list[bytes], port: int = 53) -> list[int]:
        """A datagram of each payload, from a socket of its own, answered with the same; the clients' ports."""
        ports = []
        for payload in payloads:
            with inside(self.netns("client")):
                mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with mine:
                mine.settimeout(SECONDS)
                mine.sendto(payload, (VIP, port))
                assert mine.recv(1 << 16) == payload
                ports.append(mine.getsockname()[1])
        return ports


@contextmanager
def road(name: str) -> Iterator[Road]:
    built = Road(f"road{os.getpid()}-{name}")
    places = ("client", "router", "server")
    try:
        for place in places:
            _run("ip", "netns", "add", built.netns(place).name)
            for which in ("all", "default"):  # what IPv6 says by itself would be recorded
                built.run(place, "sysctl", "-qw", f"net.ipv6.conf.{which}.disable_ipv6=1")
            _run("ip", "-n", built.netns(place).name, "link", "set", "lo", "up")
        for place, ours, theirs in (("client", "10.9.1.1", CLIENT), ("server", ROUTER, SERVER)):
            there, router = built.netns(place).name, built.netns("router").name
            _run("ip", "-n", router, "link", "add", f"to-{place}", "type", "veth", "peer", "name", "eth0", "netns", there)
            _run("ip", "-n", router, "addr", "add", f"{ours}/24", "dev", f"to-{place}")
            _run("ip", "-n", router, "link", "set", f"to-{place}", "up")
            _run("ip", "-n", there, "addr", "add", f"{theirs}/24", "dev", "eth0")
            _run("ip", "-n", there, "link", "set", "eth0", "up")
            _run("ip", "-n", there, "route", "add", "default", "via", ours)
        built.run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for proto, port, target in (("tcp", PORT, TARGET), ("udp", 53, 5353)):
            rule = ["-d", VIP, "-p", proto, "--dport", str(port), "-j", "DNAT", "--to-destination", f"{SERVER}:{target}"]
            built.run("router", "iptables", "-t", "nat", "-A", "PREROUTING", *rule)
        built.run("router", "iptables", "-t", "nat", "-A", "POSTROUTING", "-d", SERVER, "-j", "MASQUERADE", "--random-fully")
        with _servers(built):
            yield built
    finally:
        for place in places:
            subprocess.run(["ip", "netns", "del", built.netns(place).name], capture_output=True, check=False)


@contextmanager
def _servers(built: Road) -> Iterator[None]:
    with inside(built.netns("server")):
        streams = socket.create_server((SERVER, TARGET), backlog=128)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((SERVER, 5353))

    def serve() -> None:
        while True:
            try:
                taken, _ = streams.accept()
            except OSError:
                return
            with taken:
                taken.sendall(bytes(int(taken.makefile().readline())))

    def echo() -> None:
        while True:
            try:
                payload, peer = datagrams.recvfrom(1 << 16)
            except OSError:
                return
            if not payload:
                return
            datagrams.sendto(payload, peer)

    threads = [threading.Thread(target=each, daemon=True) for each in (serve, echo)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        streams.shutdown(socket.SHUT_RDWR)
        streams.close()
        datagrams.close()


class Places(Protocol):
    """Namespaces that commands run in."""

    def command(self, place: str, *words: str) -> list[str]:
        """`words` as a command in `place`."""


class Recorded:
    """`hopline record` in one of several namespaces; every step may take `seconds`."""

    def __init__(
        self, places: Places, folder: Path, *options: str, place: str = "router", node: str = "n", wait: bool = True, seconds: int = SECONDS
    ) -> None:
        self.folder, self.node, self._seconds = folder, node, seconds
        self._log = folder.with_name(folder.name + ".log")
        words = [*RECORD, "-o", str(folder), "--node", node, "--log", "json", *options]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(places.command(place, *words), stderr=log)
        if wait:
            self.until(lambda lines: any(line["event"] == "recording" for line in lines))

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]

    def until(self, holds: Any) -> None:
        deadline = time.monotonic() + self._seconds
        while not holds(self.said()):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def end(self, how: int = signal.SIGINT) -> dict[str, Any]:
        """Its account of itself."""
        time.sleep(0.1)
        self.process.send_signal(how)
        self.process.wait(self._seconds)
        return self.account()

    def account(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / f"{self.node}.recording.json").read_text())
        return told

    def captures(self) -> list[Capture]:
        found = []
        for path in sorted((self.folder / self.node).glob("*.pcapng")):
            with path.open("rb") as stream:
                found.append(read_capture(stream, path.name, self.node))
        return found

    def tuples(self) -> dict[str, set[tuple[str, int, str, int]]]:
        """By interface, the (source, port, destination, port) of the packets that are there."""
        found: dict[str, set[tuple[str, int, str, int]]] = {}
        for capture in self.captures():
            rows = capture.observations
            for row in np.flatnonzero(rows["view"] == 0).tolist():
                src, dst = (addresses.text(int(rows[f"{side}_hi"][row]), int(rows[f"{side}_lo"][row])) for side in ("src", "dst"))
                name = capture.points[rows["point"][row]].interface
                found.setdefault(name, set()).add((src, int(rows["sport"][row]), dst, int(rows["dport"][row])))
        return found


@contextmanager
def recorders(places: Places, folder: Path, *always: str) -> Iterator[Callable[..., Recorded]]:
    """What begins recorders, each with `always` and its own options; `within` and `name` say where it writes. None outlives the block."""
    begun: list[Recorded] = []

    def begin(*options: str, within: Path = folder, name: str = "bundle", **how: Any) -> Recorded:
        begun.append(Recorded(places, within / name, *always, *options, **how))
        return begun[-1]

    try:
        yield begin
    finally:
        for each in begun:
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait()


def holds(account: dict[str, Any]) -> bool:
    """Whether what was seen is accounted for at every stage."""
    stages = account["packets"].values()
    return all(stage["seen"] == stage["written"] + stage["dropped"] + stage["left_out"] + stage.get("waiting", 0) for stage in stages)
