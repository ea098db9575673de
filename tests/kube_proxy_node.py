"""node-b of the recorded clusters as a namespace: pods that answer for every endpoint address beside it, a client inside, one outside."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kernel.lab import Lab

NODE = "node-b"
NODE_ADDRESSES = {False: ("172.30.0.12", "10.244.255.1"), True: ("fd00:30::12", "fd00:10:244:ff::1")}  # to the outside, to pods
CLIENTS = {"client": {False: "10.244.200.9", True: "fd00:10:244:c8::9"}, "outside": {False: "172.30.0.200", True: "fd00:30::c8"}}
# Endpoints of all nodes live here; their addresses are all local to this namespace.
_PODS = {False: ("10.244.3.254", "10.244.0.0/22"), True: ("fd00:10:244:3::fe", "fd00:10:244::/62")}
_BALANCERS = "172.30.0.240/31"
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
    """The node without rules; pods answer with the peer and the own address they see, and close."""
    lab = Lab(f"hop{os.getpid()}-{name}")
    places = ("node", "pods", *CLIENTS)
    try:
        for place in places:
            subprocess.run(["ip", "netns", "add", lab.name(place)], check=True, capture_output=True)
            lab.sysctl(place, {"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0})
        lab.sysctl("node", {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        for line in _wiring(lab):
            lab.run(line[0], "ip", *line[1].split())
        with _pods(lab):
            yield lab
    finally:
        for place in places:
            with suppress(subprocess.CalledProcessError):
                subprocess.run(["ip", "netns", "del", lab.name(place)], check=True, capture_output=True)


def _wiring(lab: Lab) -> Iterator[tuple[str, str]]:
    """(place, arguments of ip)."""
    for place in ("node", "pods", *CLIENTS):
        yield place, "link set lo up"
    for place in ("pods", *CLIENTS):
        yield "node", f"link add to-{place} type veth peer name eth0 netns {lab.name(place)}"
        yield "node", f"link set to-{place} up"
        yield place, "link set eth0 up"
    for ipv6, version in ((False, "-4"), (True, "-6")):
        (outer, inner), (pods, endpoints), whole = NODE_ADDRESSES[ipv6], _PODS[ipv6], 128 if ipv6 else 32
        shared = 64 if ipv6 else 24
        yield "node", f"{version} addr add {outer}/{shared} dev to-outside"
        yield "outside", f"{version} addr add {CLIENTS['outside'][ipv6]}/{shared} dev eth0"
        yield "outside", f"{version} route add default via {outer}"
        yield "node", f"{version} route add default via {CLIENTS['outside'][ipv6]}"
        for place, address, behind in (("client", CLIENTS["client"][ipv6], ()), ("pods", pods, (endpoints,))):
            yield "node", f"{version} addr add {inner}/{whole} dev to-{place}"
            yield "node", f"{version} route add {address}/{whole} dev to-{place}"
            yield place, f"{version} addr add {address}/{whole} dev eth0"
            yield place, f"{version} route add default via {inner} dev eth0 onlink"
            for prefix in behind:
                yield "node", f"{version} route add {prefix} via {address} dev to-{place} onlink"
                yield place, f"{version} route add local {prefix} dev lo"
    yield "outside", f"route add {_BALANCERS} via {NODE_ADDRESSES[False][0]}"


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
                mine = taken.getsockname()
                taken.sendall(f"{peer[0].removeprefix('::ffff:')} {mine[0].removeprefix('::ffff:')} {mine[1]}".encode())

    for server in listening:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
    try:
        yield
    finally:
        for server in listening:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


def ask(lab: Lab, place: str, address: str, port: int) -> tuple[str, str, int]:
    """(client, server, port) as the server of a new connection sees them."""
    with lab.socket(place, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as mine:
        mine.settimeout(20)
        mine.connect((address, port))
        client, server, seen = mine.makefile().read().split()
    return client, server, int(seen)
