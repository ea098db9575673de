"""Whose sockets are and what was asked for, told by the running kernel: real connections, and a real socket load balancer beside us."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.live.attach import attach_cgroup, cgroup_programs
from probes.live.bpf import KINDS, BpfError, Program
from probes.live.clock import Clock
from probes.live.sockets import SocketProbe, order
from probes.live.sockets.loader import ABILITIES, FUNCTIONS, SOCKET, SOURCE
from probes.live.sockets.order import root_cgroup
from probes.sockets import read_sockets

Lines = list[dict[str, Any]]
BALANCER = Path(__file__).with_name("socket_lb.c")
VIP, VIP_PORT = "203.0.113.77", 7477
CONNECTIONS = 101
KILLED = """
import os
from pathlib import Path
from probes.live.clock import Clock
from probes.live.sockets import SocketProbe
SocketProbe(Path(os.devnull), Clock())
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Any]:
    """`with watch() as lines:` fills `lines` when it ends with what the probe wrote of sockets of this process."""
    try:
        root_cgroup()
        SocketProbe(tmp_path / "possible.jsonl", Clock()).close()
    except (BpfError, OSError) as error:
        pytest.skip(str(error))

    @contextmanager
    def watching(**options: Any) -> Iterator[Lines]:
        path = tmp_path / "node-a.sockets.jsonl"
        probe = SocketProbe(path, Clock(), **options)
        lines: Lines = []
        try:
            yield lines
        finally:
            probe.drain()
            probe.close()
            assert probe.counters()["seen"] == probe.counters()["written"] + probe.counters()["dropped"]
            lines += map(json.loads, path.read_text().splitlines())

    return watching


def endpoint(address: tuple[Any, ...]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def of(lines: Lines, local: str, event: str) -> dict[str, Any]:
    """The one line of the socket with that local end."""
    (line,) = [line for line in lines if line.get("local") == local and line["event"] == event]
    return line


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("abilities", ABILITIES[:2], ids=["newest", "older"])
def test_every_connection_is_told_from_both_ends(
    watch: Callable[..., Any], host: str, abilities: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.live.sockets.loader.ABILITIES", (abilities,))
    ends = []
    with (
        inside("burstable/podlike") as cgroup,
        watch() as lines,
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server,
    ):
        for _ in range(CONNECTIONS):
            with socket.create_connection(server.getsockname()[:2]) as client, server.accept()[0] as accepted:
                client.send(b"hello")
                accepted.recv(5)
                accepted.send(b"hello")
                client.recv(5)
                ends.append(endpoint(client.getsockname()))
        listening = endpoint(server.getsockname())
    process, command = os.getpid(), Path("/proc/self/comm").read_text().strip()
    for end in ends:
        opened = of(lines, end, "connect")
        assert (opened["remote"], opened["asked"], opened["process"], opened["command"]) == (listening, listening, process, command)
    taken = [line for line in lines if line["event"] == "accept" and line["local"] == listening]
    assert [line["remote"] for line in taken] == ends
    assert of(lines, listening, "listen")["process"] == process
    assert {line["cgroup"] for line in [*taken, *(of(lines, end, "connect") for end in ends)]} == {cgroup}


def test_a_refused_connection_and_datagrams_are_told(watch: Callable[..., Any]) -> None:
    with watch() as lines, socket.socket(type=socket.SOCK_DGRAM) as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        clients = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(23)]
        for client in clients:
            client.sendto(b"one", server.getsockname())
            client.sendto(b"two", server.getsockname())
        connected = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        connected.connect(server.getsockname())
        connected.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 1))
        there, locals_ = endpoint(server.getsockname()), [f"127.0.0.1:{client.getsockname()[1]}" for client in [*clients, connected]]
    for local in locals_:
        told = of(lines, local, "sent")  # once each, however many datagrams
        assert (told["proto"], told["remote"], told["asked"], told["process"]) == (17, there, there, os.getpid())
    assert [line["proto"] for line in lines if line.get("asked") == "127.0.0.1:1"] == [6]


def test_a_connection_from_before_is_told_with_its_next_packet(watch: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        with watch() as lines:
            client.send(b"hello")
            client.send(b"again")
        local, there = endpoint(client.getsockname()), endpoint(server.getsockname())
    assert of(lines, local, "sent")["remote"] == there


@contextmanager
def inside(path: str) -> Iterator[str]:
    """This process in a cgroup of its own, `path` below one of this test; gives its path from the root's on."""
    root = root_cgroup()
    top = root / f"hopline-test-{os.getpid()}"
    folder = top / path
    folder.mkdir(parents=True)
    before = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].partition("\n")[0]
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield f"/{folder.relative_to(root)}"
    finally:
        (root / before.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        while folder != root:
            folder.rmdir()
            folder = folder.parent


@contextmanager
def balancer(backend_port: int) -> Iterator[None]:
    """Connections to the VIP go to this port of the loopback address, whatever program is told of them before or after."""
    numbers = {
        "VIP": int.from_bytes(socket.inet_aton(VIP), sys.byteorder), "VIP_PORT": socket.htons(VIP_PORT),
        "BACKEND": int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder), "BACKEND_PORT": socket.htons(backend_port),
    }  # fmt: skip
    with Program(BALANCER, numbers) as program:
        program.attach_cgroup("balance_connect", "connect4", root_cgroup())
        program.attach_cgroup("balance_sendmsg", "sendmsg4", root_cgroup())
        yield


def ask_the_vip(server: socket.socket, datagrams: socket.socket) -> tuple[str, str]:
    """Connect and send to the VIP; the local ends."""
    with socket.create_connection((VIP, VIP_PORT)) as client, server.accept()[0], socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", (VIP, VIP_PORT))
        assert datagrams.recv(5) == b"hello"
        return endpoint(client.getsockname()), f"127.0.0.1:{sender.getsockname()[1]}"


@pytest.mark.parametrize("way", ["balancer first", "balancer later", "balancer first, no preorder", "balancer first, seen from behind"])
def test_what_was_asked_is_told_beside_a_load_balancer(watch: Callable[..., Any], way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "no preorder" in way:  # as before Linux 6.15
        monkeypatch.setattr(order, "PREORDER", 1 << 30)
    if "behind" in way:
        monkeypatch.setattr("probes.live.sockets.loader.attach_first", attached_last)
    with (
        inside("besteffort/podlike"),
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        ExitStack() as stack,
    ):
        port = server.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        if way == "balancer later":
            lines = stack.enter_context(watch())
            stack.enter_context(balancer(port))
        else:
            stack.enter_context(balancer(port))
            lines = stack.enter_context(watch())
        opened, sent = ask_the_vip(server, datagrams)
    asked = f"127.0.0.1:{port}" if "behind" in way else f"{VIP}:{VIP_PORT}"
    for local, event in ((opened, "connect"), (sent, "sent")):
        line = of(lines, local, event)
        assert (line["asked"], line["remote"]) == (asked, f"127.0.0.1:{port}")
    assert (lines[0]["first"]["connect4"], lines[0]["first"]["sendmsg4"]) == ("behind" not in way,) * 2


def attached_last(program: int, attach_type: int, root: Path) -> tuple[list[int], bool]:
    """As where nothing lets us be first."""
    others = cgroup_programs(attach_type, root)
    link = attach_cgroup(program, attach_type, root)
    return [link], cgroup_programs(attach_type, root)[0] not in others


def test_nothing_stays_attached(watch: Callable[..., Any]) -> None:
    root = root_cgroup()
    kinds = FUNCTIONS.values()

    def attached() -> list[list[int]]:
        return [cgroup_programs(KINDS[kind].attach_type, root) for kind in kinds]

    before = attached()
    with watch():
        assert [len(each) for each in attached()] == [len(each) + 1 for each in before]
    assert attached() == before
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=Path(__file__).parents[2], check=False)
    assert (killed.returncode, attached()) == (-9, before)


def test_a_full_ring_is_counted(watch: Callable[..., Any], tmp_path: Path) -> None:
    del watch
    probe = SocketProbe(tmp_path / "few.jsonl", Clock(), ring_bytes=4096)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        for _ in range(CONNECTIONS):
            with socket.create_connection(server.getsockname()):
                pass
    probe.close()
    counters = probe.counters()
    assert counters["dropped"] > 0
    assert counters["seen"] == counters["written"] + counters["dropped"] >= CONNECTIONS
    assert len(read_sockets((tmp_path / "few.jsonl").read_bytes(), "few")[0].table["cookie"]) == counters["written"]


@pytest.mark.parametrize("abilities", ABILITIES, ids=lambda each: "+".join(each) or "none")
def test_the_record_is_what_the_reader_takes_it_for(abilities: dict[str, int], tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    source.write_text(f"{SOURCE.read_text()}\nBPF_ARRAY(layout, struct socket, 1);\n")
    try:
        program = Program(source, {**abilities, "RING_PAGES": 16})
    except BpfError as error:
        pytest.skip(str(error))
    with program:
        leaf = program.map("layout").Leaf
        fields = {name: (getattr(leaf, name).offset, getattr(leaf, name).size) for name, *_ in leaf._fields_}
    assert fields == {name: (offset, np.dtype(kind).itemsize) for name, (kind, offset, *_) in (SOCKET.fields or {}).items()}
