"""node-b of the recorded clusters as a namespace: pods that answer for every endpoint address beside it, a client inside, one outside."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest
from kernel.lab import Lab, missing

NODE = "node-b"
FAMILIES = {"-4": False, "-6": True}  # option of ip: IPv6?
NODE_ADDRESSES = {False: ("172.30.0.12", "10.244.1.1"), True: ("fd00:30::12", "fd00:10:244:1::1")}  # to the outside, to pods
# The client is the pod toolbox-…, which no Service has as an endpoint.
CLIENTS = {"client": {False: "10.244.1.5", True: "fd00:10:244:1::5"}, "outside": {False: "172.30.0.200", True: "fd00:30::c8"}}
# The endpoints of all nodes live in one namespace, to which their addresses are local: its own address, theirs.
_PODS = {
    False: ("10.244.1.254", ("10.244.0.0/24", "10.244.2.0/24", "10.244.1.2/31", "10.244.1.4/32", "10.244.1.6/32")),
    True: ("fd00:10:244:1::fe", ("fd00:10:244::/64", "fd00:10:244:2::/64", "fd00:10:244:1::2/127", "fd00:10:244:1::4/128")),
}
_BALANCERS = "172.30.0.240/29"
_PORTS = (80, 5000, 8080)
_NETLINK_NETFILTER, _NEW_ACCOUNT, _REQUEST_ACK_CREATE = 12, 7 << 8, 0x405  # NFNL_SUBSYS_ACCT, NFNL_MSG_ACCT_NEW
ACCOUNTS = ("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts")


def load(lab: Lab, words: list[str], text: str) -> None:
    """`text` into a command on the node."""
    done = subprocess.run(lab.command("node", *words), input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def make_accounts(lab: Lab) -> None:
    """The nfacct objects that kube-proxy makes before it writes rules that count with them."""
    with lab.socket("node", socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        for number, name in enumerate(ACCOUNTS):
            value = name.encode() + b"\0"
            attribute = struct.pack("=HH", 4 + len(value), 1) + value + bytes(-len(value) % 4)
            payload = struct.pack("=BBH", 0, 0, 0) + attribute
            netlink.send(struct.pack("=IHHII", 16 + len(payload), _NEW_ACCOUNT, _REQUEST_ACK_CREATE, number, 0) + payload)
            (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
            assert error == 0, os.strerror(-error)


@contextmanager
def node(name: str) -> Iterator[Lab]:
    """The node without rules; pods answer with the peer and the own address they see, and close. Skips where namespaces cannot be made."""
    if reason := missing():
        pytest.skip(reason)
    lab = Lab(f"hop{os.getpid()}-{name}")
    places = ("node", "pods", *CLIENTS)
    try:
        for place in places:
            subprocess.run(["ip", "netns", "add", lab.name(place)], check=True, capture_output=True)
            lab.sysctl(place, {"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0})
        lab.sysctl("node", {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        lines = list(_wiring(lab))
        for place in places:  # the node first: it makes the other ends of its links
            for family in FAMILIES:
                batch = [line for there, version, line in lines if (there, version) == (place, family)]
                lab.run(place, "ip", family, "-batch", "-", stdin="\n".join([*batch, ""]))
        with _pods(lab):
            yield lab
    finally:
        for place in places:
            with suppress(subprocess.CalledProcessError):
                subprocess.run(["ip", "netns", "del", lab.name(place)], check=True, capture_output=True)


def _wiring(lab: Lab) -> Iterator[tuple[str, str, str]]:
    """(place, option of ip for a family, its arguments)."""
    for place in ("node", "pods", *CLIENTS):
        yield place, "-4", "link set lo up"
    for place in ("pods", *CLIENTS):
        yield "node", "-4", f"link add to-{place} type veth peer name eth0 netns {lab.name(place)}"
        yield "node", "-4", f"link set to-{place} up"
        yield place, "-4", "link set eth0 up"
    for version, ipv6 in FAMILIES.items():
        (outer, inner), (pods, endpoints), outside = NODE_ADDRESSES[ipv6], _PODS[ipv6], CLIENTS["outside"][ipv6]
        whole, shared = (128, 64) if ipv6 else (32, 24)
        yield "node", version, f"addr add {outer}/{shared} dev to-outside"
        yield "outside", version, f"addr add {outside}/{shared} dev eth0"
        yield "outside", version, f"route add default via {outer}"
        yield "node", version, f"route add default via {outside}"
        for place, address, behind in (("client", CLIENTS["client"][ipv6], ()), ("pods", pods, endpoints)):
            yield "node", version, f"addr add {inner}/{whole} dev to-{place}"
            yield "node", version, f"route add {address}/{whole} dev to-{place}"
            yield place, version, f"addr add {address}/{whole} dev eth0"
            yield place, version, f"route add default via {inner} dev eth0 onlink"
            for prefix in behind:
                yield "node", version, f"route add {prefix} via {address} dev to-{place} onlink"
                yield place, version, f"route add local {prefix} dev lo"
    yield "outside", "-4", f"route add {_BALANCERS} via {NODE_ADDRESSES[False][0]}"


@contextmanager
def _pods(lab: Lab) -> Iterator[None]:
    with lab.inside("pods"):
        listening = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in _PORTS]

    def answer(server: socket.socket) -> None:
        while True:
            try:
                taken, peer = server.accept()
            except OSError:
                return
            with taken, suppress(OSError):
                taken.sendall(f"{_text(peer)} {_text(taken.getsockname())}".encode())

    for server in listening:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
    try:
        yield
    finally:
        for server in listening:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


def _text(name: tuple[str, int, int, int] | tuple[str, int]) -> str:
    address = name[0].removeprefix("::ffff:")
    return f"[{address}]:{name[1]}" if ":" in address else f"{address}:{name[1]}"


class Answered(NamedTuple):
    """A connection: the client's end as it sees it itself, and both ends as the server sees them; `address:port` each."""

    own: str
    client: str
    server: str


def ask(lab: Lab, place: str, address: str, port: int, *, seconds: float = 60) -> Answered:
    """A new connection from `place`, with a request that is answered."""
    with lab.socket(place, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as mine:
        mine.settimeout(seconds)
        mine.connect((address, port))
        client, server = mine.makefile().read().split()
        return Answered(_text(mine.getsockname()), client, server)
