"""Namespaces for one node: a client in a pod's place, the node that translates, and a server that has every endpoint's address.

    client ── to-client │ node │ to-server ── server

Nothing but the two links leads anywhere. The server answers at all addresses of some networks by one local route, so that 20,000 endpoints
need no 20,000 addresses. The links have link-local addresses, as with Calico: they are never those of a cluster.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from probes.live.namespaces import inside

NETNS = Path("/run/netns")
PLACES = ("client", "node", "server")
NEAR, FAR, SERVER = "169.254.1.1", "169.254.2.1", "169.254.2.2"  # of the node at both links, and of the server
CLIENT_LINK, SERVER_LINK = "to-client", "to-server"
BACKLOG = 4096  # connections that wait at the server until somebody looks
_SYSCTLS: dict[str, dict[str, int | str]] = {
    "client": {"ipv4/ip_local_port_range": "10240 65001", "ipv4/tcp_syn_retries": 2},
    "node": {
        "ipv4/ip_forward": 1, "ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0,
        "ipv4/conf/all/route_localnet": 1,  # as kube-proxy sets it
    },
    "server": {"core/somaxconn": BACKLOG, "ipv4/tcp_max_syn_backlog": BACKLOG, "ipv4/tcp_syncookies": 0},
}  # fmt: skip
# Entries of connections that were reset go soon: the table stays small, and no later connection meets an old one. Only where conntrack is.
_CONNTRACK = {"netfilter/nf_conntrack_tcp_timeout_close": 1, "netfilter/nf_conntrack_tcp_timeout_time_wait": 1}


class RoadError(Exception):
    """A command in a namespace failed, or there can be no namespaces; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Road:
    """Running namespaces; `prefix` begins their names, `client` is the client's address."""

    prefix: str
    client: str

    def netns(self, place: str) -> Path:
        """The file of the namespace of `place`."""
        return NETNS / f"{self.prefix}-{place}"

    def command(self, place: str, *words: str) -> list[str]:
        """`words` as a command in `place`."""
        return ["ip", "netns", "exec", self.netns(place).name, *words]

    def run(self, place: str, *words: str, stdin: str | None = None) -> str:
        """What a command in `place` prints; RoadError where it fails."""
        return _run(self.command(place, *words), stdin)

    def ip(self, place: str, lines: Sequence[str]) -> None:
        """Run `lines`, in the form of `ip -batch`, in `place`."""
        self.run(place, "ip", "-batch", "-", stdin="\n".join([*lines, ""]))

    def sysctl(self, place: str, values: dict[str, int | str], *, optional: bool = False) -> None:
        """Set `values` (paths below net/) in `place`; `optional` ones only where the kernel has them."""
        with inside(self.netns(place)):
            for path, value in values.items():
                file = Path("/proc/sys/net") / path
                if file.exists() or not optional:
                    file.write_text(str(value))

    def keep_conntrack_small(self) -> None:
        """Let the node forget connections soon after their end; to be called when its rules are there, and conntrack with them."""
        self.sysctl("node", dict(_CONNTRACK), optional=True)


def _run(words: Sequence[str], stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        command = words[4:] if words[:3] == ["ip", "netns", "exec"] else words
        raise RoadError(f"{' '.join(command)}: {'; '.join(said[:3])}")
    return done.stdout


@contextmanager
def road(name: str, client: str, endpoints: Sequence[str], unreachable: Sequence[str] = ()) -> Iterator[Road]:
    """A road whose server has all addresses in `endpoints` (networks), and whose node drops what goes to `unreachable` untranslated.

    All of it is gone when the block is left, in whichever way. RoadError where namespaces cannot be made here.
    """
    made = Road(f"hopbench{os.getpid()}-{name}", client)
    try:
        for place in PLACES:
            _run(["ip", "netns", "add", made.netns(place).name])
        _link(made)
        made.ip("client", [
            f"addr add {client}/32 dev eth0", f"route add {NEAR} dev eth0 src {client}", f"route add default via {NEAR} src {client}",
        ])  # fmt: skip
        made.ip("node", [
            f"addr add {NEAR}/32 dev {CLIENT_LINK}", f"route add {client} dev {CLIENT_LINK}",
            f"addr add {FAR}/32 dev {SERVER_LINK}", f"route add {SERVER} dev {SERVER_LINK}",
            *(f"route add {network} via {SERVER} dev {SERVER_LINK}" for network in endpoints),
            *(f"route add blackhole {network}" for network in unreachable),
        ])  # fmt: skip
        made.ip("server", [
            f"addr add {SERVER}/32 dev eth0", f"route add {FAR} dev eth0", f"route add default via {FAR}",
            *(f"route add local {network} dev lo" for network in endpoints),
        ])  # fmt: skip
        yield made
    finally:
        for place in PLACES:
            subprocess.run(["ip", "netns", "delete", made.netns(place).name], capture_output=True, check=False)


def _link(made: Road) -> None:
    for place in PLACES:
        made.ip(place, ["link set lo up"])
    for place, link in (("client", CLIENT_LINK), ("server", SERVER_LINK)):
        made.ip("node", [f"link add {link} type veth peer name eth0 netns {made.netns(place).name}", f"link set {link} up"])
        made.ip(place, ["link set eth0 up"])
    for place in PLACES:
        made.sysctl(place, _SYSCTLS[place])
