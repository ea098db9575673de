"""A client, a node and a pod as namespaces: the node gives the pod's server a Service's address, by rules of every kind."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from probes.live.namespaces import inside

FAMILIES = (socket.AF_INET, socket.AF_INET6)
CLIENT, POD, VIP = ("10.1.0.2", "fd01::2"), ("10.2.0.2", "fd02::2"), ("10.96.0.10", "fd96::10")
PORT, TARGET_PORT = 80, 8080
FLAVOURS = ("iptables-legacy", "iptables-nft", "nftables", "ipvs")
_LINKS = {
    "client": ("10.1.0.1/24", "fd01::1/64", "10.1.0.2/24", "fd01::2/64"),
    "pod": ("10.2.0.1/24", "fd02::1/64", "10.2.0.2/24", "fd02::2/64"),
}


def _nat(family: int, *, translate: bool = True) -> str:
    """Rules for iptables-restore: the client's packets are also masqueraded, as those of a nodePort; IPVS does the rest by itself."""
    pod = (POD[0], f"[{POD[1]}]")[family]
    to = f"-j DNAT --to-destination {pod}:{TARGET_PORT}"
    dnat = [f"-A SERVICES -d {VIP[family]} -p {proto} --dport {PORT} {to}" for proto in ("tcp", "udp") if translate]
    hooks = ["-A PREROUTING -j SERVICES", f"-A POSTROUTING -d {POD[family]} -j MASQUERADE --random-fully"]
    return "\n".join(["*nat", ":SERVICES - [0:0]", *hooks, *dnat, "COMMIT", ""])


def _nft(family: int) -> str:
    kind, pod = ("ip", "ip6")[family], (POD[0], f"[{POD[1]}]")[family]
    return f"""table {kind} kube-proxy {{
  chain services {{
    {kind} daddr {VIP[family]} meta l4proto {{ tcp, udp }} th dport {PORT} dnat to {pod}:{TARGET_PORT}
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority dstnat;
    jump services
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority srcnat;
    {kind} daddr {POD[family]} masquerade fully-random
  }}
}}
"""


@dataclass(slots=True)
class Network:
    """Namespaces whose names begin with `prefix`."""

    prefix: str
    stack: ExitStack = field(default_factory=ExitStack)

    def path(self, place: str) -> Path:
        """The file of a namespace."""
        return Path("/run/netns") / f"{self.prefix}-{place}"

    def run(self, place: str, *words: str, stdin: str | None = None) -> str:
        """What a command in `place` prints."""
        command = ["ip", "netns", "exec", f"{self.prefix}-{place}", *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{place}: {' '.join(words)}: {done.stderr}\n{stdin or ''}"
        return done.stdout

    def ip(self, place: str, *lines: str) -> None:
        self.run(place, "ip", "-batch", "-", stdin="\n".join([*lines, ""]))

    def sysctl(self, place: str, **values: int) -> None:
        with inside(self.path(place)):
            for name, value in values.items():
                (Path("/proc/sys/net") / name.replace("__", "/")).write_text(str(value))

    def rules(self, flavour: str) -> None:
        """Translate the Service's addresses at the node."""
        if flavour == "nftables":
            for family in (0, 1):
                self.run("node", "nft", "-f", "-", stdin=_nft(family))
        elif flavour == "ipvs":
            self.ip("node", "link add kube-ipvs0 type dummy", *(f"addr add {vip} dev kube-ipvs0" for vip in VIP))
            for kind in ("-t", "-u"):
                for vip, pod in ((VIP[0], POD[0]), (f"[{VIP[1]}]", f"[{POD[1]}]")):
                    self.run("node", "ipvsadm", "-A", kind, f"{vip}:{PORT}", "-s", "rr")
                    self.run("node", "ipvsadm", "-a", kind, f"{vip}:{PORT}", "-r", f"{pod}:{TARGET_PORT}", "-m")
            for family in (0, 1):
                self.run("node", ("iptables-nft-restore", "ip6tables-nft-restore")[family], stdin=_nat(family, translate=False))
            self.sysctl("node", ipv4__vs__conntrack=1)
        else:
            for family in (0, 1):
                self.run("node", flavour.replace("iptables", ("iptables", "ip6tables")[family]) + "-restore", stdin=_nat(family))

    def serve(self) -> None:
        """Servers in the pod that send back what they get."""
        with inside(self.path("pod")):
            for family, address in zip(FAMILIES, POD, strict=True):
                tcp = self.stack.enter_context(socket.create_server((address, TARGET_PORT), family=family, backlog=128))
                udp = self.stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                udp.bind((address, TARGET_PORT))
                threading.Thread(target=_echo_tcp, args=(tcp,), daemon=True).start()
                threading.Thread(target=_echo_udp, args=(udp,), daemon=True).start()

    def ask(self, family: int, kind: socket.SocketKind, count: int, patience_seconds: int = 20) -> list[int]:
        """The local ports of `count` conversations with the Service."""
        ports = []
        with inside(self.path("client")):
            for _ in range(count):
                with socket.socket(FAMILIES[family], kind) as client:
                    client.settimeout(patience_seconds)
                    client.connect((VIP[family], PORT))
                    client.send(b"hello")
                    assert client.recv(100) == b"hello"
                    ports.append(client.getsockname()[1])
        return ports


def _echo_tcp(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:  # closed
            return
        with client:
            client.send(client.recv(100))
            client.recv(1)


def _echo_udp(server: socket.socket) -> None:
    while True:
        try:
            content, address = server.recvfrom(100)
        except OSError:
            return
        server.sendto(content, address)


@contextmanager
def network(name: str) -> Iterator[Network]:
    """The namespaces, their links and their servers; gone at the end."""
    made = Network(f"hop{os.getpid()}-{name}")
    try:
        for place in ("client", "node", "pod"):
            subprocess.run(["ip", "netns", "add", f"{made.prefix}-{place}"], check=True)
            made.ip(place, "link set lo up")
            with inside(made.path(place)):
                for which in ("all", "default"):
                    Path(f"/proc/sys/net/ipv6/conf/{which}/accept_dad").write_text("0")
        for place, (node4, node6, four, six) in _LINKS.items():
            made.ip(
                "node", f"link add {place} type veth peer name eth0 netns {made.prefix}-{place}", f"link set {place} up",
                f"addr add {node4} dev {place}", f"addr add {node6} dev {place} nodad",
            )  # fmt: skip
            made.ip(
                place, "link set eth0 up", f"addr add {four} dev eth0", f"addr add {six} dev eth0 nodad",
                f"route add default via {node4.split('/')[0]}", f"route add default via {node6.split('/')[0]}",
            )  # fmt: skip
        made.sysctl("node", ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        made.serve()
        yield made
    finally:
        made.stack.close()
        for path in Path("/run/netns").glob(f"{made.prefix}-*"):
            subprocess.run(["ip", "netns", "delete", path.name], check=True)
