"""The cluster: namespaces as machines and pods, a bridge `cni0` per node, VXLAN `flannel.1` between the nodes.

Everything happens inside namespaces whose names carry this process's id; leaving the `lab()` block deletes them.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .services import GATEWAY, MACHINES, NODES, PODS, Addresses, Node, Pod

CLONE_NEWNET = 0x40000000
NETNS = Path("/run/netns")
MTU = 1450
WAIT_SECONDS = 180  # for a command; on a translated processor nft takes most of a minute for its rules
TOOLS = ("ip", "tcpdump", "conntrack", "iptables-nft-restore", "nft")
_libc = ctypes.CDLL(None, use_errno=True)

_NODE_SYSCTLS: dict[str, int | str] = {
    "ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0,
    "ipv4/conf/all/send_redirects": 0, "ipv4/conf/default/send_redirects": 0,
}  # fmt: skip
_SYSCTLS: dict[str, int | str] = {
    "ipv4/icmp_ratelimit": 0, "ipv4/icmp_msgs_per_sec": 100_000, "ipv6/icmp/ratelimit": 0,  # every REJECT is answered
    "ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0, "ipv6/conf/default/accept_redirects": 0,
    "ipv4/ping_group_range": "0 2147483647",
}  # fmt: skip


def missing() -> str | None:
    """Why no lab can be built here, None where it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)} (apt install tcpdump conntrack iptables nftables iproute2)"
    probe = f"hop{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    entered = subprocess.run(["ip", "netns", "exec", probe, "true"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    told = (made.stderr + entered.stderr).strip()
    return f"network namespaces cannot be used here, as in some containers: {told}" if told else None


@dataclass(frozen=True, slots=True)
class Lab:
    """A running cluster; `prefix` begins the names of its namespaces."""

    prefix: str

    def name(self, place: str) -> str:
        """The namespace of `place`."""
        return f"{self.prefix}-{place}"

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """This thread in the namespace of `place`; sockets made there stay there."""
        with Path("/proc/thread-self/ns/net").open() as home, (NETNS / self.name(place)).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def socket(self, place: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in `place`."""
        with self.inside(place):
            return socket.socket(family, kind, protocol)

    def command(self, place: str, *words: str) -> list[str]:
        """`words` as a command in `place`: `ip netns exec` becomes the command, so its process id is the command's."""
        return ["ip", "netns", "exec", self.name(place), *words]

    def run(self, place: str, *words: str, stdin: str | None = None) -> str:
        """Run a command in `place` and return what it prints."""
        done = subprocess.run(self.command(place, *words), input=stdin, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
        if done.returncode:
            raise RuntimeError(f"{place}: {' '.join(words)}: {done.stderr.strip()}\n{stdin or ''}")
        return done.stdout

    def sysctl(self, place: str, values: dict[str, int | str]) -> None:
        """Set `values` (paths below net/) in `place`."""
        with self.inside(place):
            for path, value in values.items():
                (Path("/proc/sys/net") / path).write_text(str(value))


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(batch: Sequence[str], namespace: str | None = None) -> None:
    words = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(words, input="\n".join(batch) + "\n", capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def lab(name: str, *, bridge_nf: bool) -> Iterator[Lab]:
    """A fresh cluster, deleted at the end.

    With `bridge_nf` pods of a node talk through the bridge and br_netfilter shows their packets to the rules, without which a Service's
    answers from the same node would bypass NAT. Otherwise every pod is alone on its subnet, and its node routes all it sends.
    """
    _delete_orphans()
    built = Lab(f"hop{os.getpid()}-{name}")
    places = ["underlay", *MACHINES, *PODS]
    try:
        _ip([f"netns add {built.name(place)}" for place in places])
        for place in places:
            built.sysctl(place, _SYSCTLS | (_NODE_SYSCTLS if place in NODES else {}))
        _machines(built)
        for node in NODES.values():
            _pod_network(built, node, bridge_nf=bridge_nf)
        yield built
    finally:
        for place in places:
            with suppress(RuntimeError):
                _ip([f"netns del {built.name(place)}"])


def _delete_orphans() -> None:
    """Namespaces of an earlier run that was killed before it could clean up."""
    for path in NETNS.glob("hop*-*"):
        owner = re.match(r"hop(\d+)-", path.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _ip([f"netns del {path.name}"])


def _machines(built: Lab) -> None:
    """Client and nodes on one Ethernet."""
    underlay = built.name("underlay")
    _ip(["link add ul0 type bridge mcast_snooping 0", "link set lo up", "link set ul0 up"], underlay)
    for place, machine in MACHINES.items():
        four, six = machine.addresses
        there = built.name(place)
        _ip([f"link add {place} type veth peer name eth0 netns {there}", f"link set {place} master ul0 up"], underlay)
        lines = [f"addr add {four}/24 dev eth0", f"addr add {six}/64 dev eth0 nodad", "link set lo up", "link set eth0 up"]
        if place != "client":  # what no rule catches goes to the gateway, which drops it
            lines += [f"route add default via {GATEWAY[0]}", f"route add default via {GATEWAY[1]}"]
        _ip(lines, there)


def _pod_network(built: Lab, node: Node, *, bridge_nf: bool) -> None:
    four, six = node.bridge
    lines = [
        "link add cni0 type bridge mcast_snooping 0 mcast_router 0", f"link set cni0 mtu {MTU} up",
        f"addr add {four}/24 dev cni0", f"addr add {six}/64 dev cni0 nodad",
        f"link add flannel.1 address {node.vtep_mac} type vxlan id 1 local {node.addresses[0]} dev eth0 dstport 8472 nolearning",
        f"addr add {node.vtep[0]}/32 dev flannel.1", f"addr add {node.vtep[1]}/128 dev flannel.1 nodad", f"link set flannel.1 mtu {MTU} up",
    ]  # fmt: skip
    others = [other for other in NODES.values() if other is not node]
    for other in others:
        for cidr, vtep in zip(other.pod_cidrs, other.vtep, strict=True):
            lines += [
                f"route add {cidr} via {vtep} dev flannel.1 onlink",
                f"neigh add {vtep} lladdr {other.vtep_mac} dev flannel.1 nud permanent",
            ]
    _ip(lines, built.name(node.name))
    for other in others:
        built.run(node.name, "bridge", "fdb", "add", other.vtep_mac, "dev", "flannel.1", "dst", other.addresses[0], "self", "permanent")
    built.sysctl(node.name, dict.fromkeys(("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"), int(bridge_nf)))
    for pod in (pod for pod in PODS.values() if pod.node == node.name):
        _plug(built, node, pod, lengths=("24", "64") if bridge_nf else ("32", "128"))


def _plug(built: Lab, node: Node, pod: Pod, lengths: Addresses) -> None:
    here, there, veth = built.name(node.name), built.name(pod.name), f"veth-{pod.name}"
    _ip([
        f"link add {veth} mtu {MTU} type veth peer name eth0 address {pod.mac} mtu {MTU} netns {there}", f"link set {veth} master cni0 up",
        f"link set dev {veth} type bridge_slave hairpin on",
        # to a neighbour not heard of for half a minute, what the bridge translates goes by way of cni0 (br_nf_pre_routing_finish_bridge)
        *(f"neigh add {address} lladdr {pod.mac} dev cni0 nud permanent" for address in pod.addresses),
    ], here)  # fmt: skip
    _ip([
        "link set lo up", f"addr add {pod.addresses[0]}/{lengths[0]} dev eth0", f"addr add {pod.addresses[1]}/{lengths[1]} dev eth0 nodad",
        "link set eth0 up", *(f"route add default via {gateway} dev eth0 onlink" for gateway in node.bridge),
    ], there)  # fmt: skip
