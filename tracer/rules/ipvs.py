"""kube-proxy's IPVS mode, from `ipvsadm-save -n` and, where there are any, `ipset save` and `iptables-save`.

IPVS itself finds a virtual server by one hash lookup and a real server by its scheduler (net/netfilter/ipvs/ip_vs_core.c). The iptables
rules beside it, constant in number, decide on masquerade through ipsets (pkg/proxy/ipvs/ipset.go and proxier.go).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from probes import addresses
from probes.addresses import Address, is_ipv6
from probes.schema import Problem
from tracer.rules.iptables import Tables, destination
from tracer.rules.model import Endpoint, Key, Packet, ServicePath, Sets
from tracer.rules.walk import State

_HOOK, _SERVICES = "PREROUTING", "KUBE-SERVICES"
_PROTOCOLS = {"-t": "tcp", "-u": "udp", "--tcp-service": "tcp", "--udp-service": "udp", "--sctp-service": "sctp"}
_FORWARDING = {"-m": "masq", "-g": "route", "-i": "tunnel"}
_ADDRESS_AND_PORT = re.compile(r"([0-9a-fA-F.:]+),(tcp|udp|sctp):(\d+)$")
_OUR_SETS = re.compile(r"KUBE-(?:6-)?")

Service = tuple[Address, int, str]


@dataclass(slots=True)
class VirtualServer:
    """A virtual server: `persistent_s` is the affinity timeout in seconds (0: none), `servers` weigh by `share`."""

    scheduler: str | None = None
    persistent_s: int = 0
    forwarding: str | None = None
    servers: list[Endpoint] = field(default_factory=list)


def _options(words: list[str]) -> dict[str, str]:
    """Options of ipvsadm with their values; those without a value have an empty one."""
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        if word.startswith("-"):
            following = words[at + 1] if at + 1 < len(words) else "-"
            found[word] = "" if following.startswith("-") else following
    return found


def _service(options: dict[str, str]) -> Service:
    for option, protocol in _PROTOCOLS.items():
        if option in options:
            return *destination(options[option]), protocol
    raise ValueError(options)  # a service by firewall mark is none of kube-proxy's


def _lines(text: str, file: str, read: Callable[[str], None], what: str) -> list[Problem]:
    """Read line by line; Problems for those on which `read` raises ValueError and for a last one without its end."""
    problems: list[Problem] = []
    bad_lines, first_bad = 0, -1
    lines = text.split("\n")
    if lines[-1].strip():
        problems.append(Problem(file, "the last line has no end and is left out", "the file was cut; record it again", len(lines), "note"))
    for number, line in enumerate(lines[:-1], 1):
        try:
            if line.strip() and not line.startswith("#"):
                read(line)
        except ValueError:
            bad_lines += 1
            first_bad = number if first_bad < 0 else first_bad
    if bad_lines:
        told = f"{bad_lines} line{'s are' if bad_lines > 1 else ' is'} not {what}; the first is line {first_bad}"
        problems.append(Problem(file, told, "the other lines were used; look at that line", first_bad))
    return problems


def read_servers(text: str, file: str) -> tuple[dict[Service, VirtualServer], list[Problem]]:
    """Virtual servers of `ipvsadm-save -n` (without -n, names stand for addresses and lines are counted as unreadable)."""
    servers: dict[Service, VirtualServer] = {}

    def read(line: str) -> None:
        words = line.split()
        options = _options(words)
        if words[0] == "-A":
            persistent = options.get("-p")
            seconds = int(persistent or "300") if persistent is not None else 0  # ipvsadm's default
            servers[_service(options)] = VirtualServer(options.get("-s"), seconds)
        elif words[0] == "-a":
            server = servers.setdefault(_service(options), VirtualServer())
            server.forwarding = next((name for option, name in _FORWARDING.items() if option in options), server.forwarding)
            server.servers.append(Endpoint(*destination(options.get("-r", "")), float(int(options.get("-w") or "1"))))
        else:
            raise ValueError(line)

    return servers, _lines(text, file, read, "ipvsadm-save -n's")


def _element(text: str) -> Key:
    """`10.0.0.1`, `10.0.0.1,tcp:80` or a port; ValueError for what no rule asks a first packet's destination for."""
    if match := _ADDRESS_AND_PORT.match(text):
        return addresses.parse(match[1]), match[2], int(match[3])
    return int(text) if text.isdecimal() else addresses.parse(text)


def read_sets(text: str, file: str) -> tuple[dict[str, frozenset[Key]], list[Problem]]:
    """Sets of `ipset save` by name; elements of three parts (KUBE-LOOP-BACK, source ranges) are passed over."""
    found: dict[str, set[Key]] = {}

    def read(line: str) -> None:
        words = line.split()
        if len(words) < 3 or words[0] not in ("create", "add"):
            raise ValueError(line)
        elements = found.setdefault(words[1], set())
        if words[0] == "add" and words[2].count(",") < 2:
            elements.add(_element(words[2]))

    problems = _lines(text, file, read, "ipset save's")
    return {name: frozenset(elements) for name, elements in found.items()}, problems


class Ipvs:
    """kube-proxy's IPVS mode on one node."""

    mode = "ipvs"

    def __init__(self, servers: dict[Service, VirtualServer], sets: Sets, tables: Tables) -> None:
        self._servers = servers
        self._sets = sets
        self._rulesets = {ipv6: tables.ruleset(ipv6, sets) for ipv6 in (False, True)}
        self._masquerades = tables.has("KUBE-")
        cluster_ips = {key for name in ("KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP") for key in sets.get(name, ())}
        self.services = len(cluster_ips or servers)
        self.endpoints = len({(real.address, real.port) for server in servers.values() for real in server.servers})
        self.rules = tables.kube_rules

    def _server(self, packet: Packet) -> VirtualServer | None:
        if packet.destination is not None:
            return self._servers.get((packet.destination, packet.port, packet.protocol))
        # "Any address of the node" is one that kube-proxy did not take for a Service (KUBE-IPVS-IPS has those).
        services: frozenset[Key] = self._sets.get("KUBE-IPVS-IPS", frozenset()) | self._sets.get("KUBE-6-IPVS-IPS", frozenset())
        for (address, port, protocol), server in self._servers.items():
            if (port, protocol, is_ipv6(address)) == (packet.port, packet.protocol, packet.ipv6) and address not in services:
                return server
        return None

    def _walked(self, packet: Packet) -> State:
        """The state in which the packet leaves the nat table's prerouting rules for IPVS."""
        packet = replace(packet, to_node=True)  # kube-ipvs0 has every Service's address, so that all are the node's own
        walk = self._rulesets[packet.ipv6].walk(_HOOK if _HOOK in self._rulesets[packet.ipv6].chains else _SERVICES, packet)
        return walk.outcomes[0].state if walk.outcomes else walk.passed

    def path(self, packet: Packet, endpoint: tuple[Address, int] | None) -> ServicePath | None:
        """See `Backend.path`."""
        server = self._server(packet)
        if server is None or (endpoint is not None and endpoint not in {(real.address, real.port) for real in server.servers}):
            return None
        state = self._walked(packet)
        hairpin = endpoint is not None and packet.source == endpoint[0]
        details: dict[str, Any] = {"scheduler": server.scheduler, "forwarding": server.forwarding}
        return ServicePath(
            service=None,
            chains=(_SERVICES,) if _SERVICES in self._rulesets[packet.ipv6].chains else (),
            rules_walked=state.walked,
            endpoints=tuple(server.servers),
            affinity=server.persistent_s > 0,
            masquerade=(hairpin or state.marked) if self._masquerades else None,
            verdict="dnat" if server.servers else "reject",
            sets=tuple(
                sorted(_OUR_SETS.sub("KUBE-", name, count=1) for name, keys in self._sets.items() if not keys.isdisjoint(packet.keys))
            ),
            **details,
        )
