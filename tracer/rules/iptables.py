"""kube-proxy's iptables mode, from `iptables-save` (and `ip6tables-save`, often in the same file; with or without -c).

Chains and comments are those of kube-proxy (pkg/proxy/iptables/proxier.go): KUBE-SERVICES and KUBE-NODEPORTS find the Service, KUBE-SVC-…
(all endpoints), KUBE-SVL-… (local ones) and KUBE-EXT-… (from outside) belong to a Service's port, KUBE-SEP-… to an endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from probes import addresses
from probes.addresses import Address
from probes.schema import Problem
from tracer.rules.model import Branch, Endpoint, Network, Packet, Rule, ServicePath, Sets
from tracer.rules.walk import Chain, Ruleset, service_path

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_RULE = re.compile(r"(?:\[\d+:\d+\] )?-A (\S+)(.*)")
# `namespace/name:port` in a comment of kube-proxy: "… cluster IP", "… -> 10.0.0.1:80", "… has no endpoints", "masquerade traffic for …".
_SERVICE = re.compile(r"(?:^|\btraffic for )([a-z0-9][-a-z0-9.]*/[a-z0-9][-a-z0-9.]*(?::[-a-z0-9]+)?)(?= |$)")
_HOOK, _SERVICES = "PREROUTING", "KUBE-SERVICES"
# Matches that every first packet to a Service meets, or that the options below read.
_KNOWN_MATCHES = frozenset({"comment", "tcp", "udp", "sctp", "nfacct", "addrtype", "statistic", "recent", "set", "conntrack"})
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject"}
_TARGETS = frozenset({"DNAT", "LOG", "MARK", "MASQUERADE", "NFLOG", "REDIRECT", "SNAT"})  # not chains
_FAMILIES = (False, True)  # IPv6?

_Fields = dict[str, Any]
_IMPOSSIBLE: _Fields = {"impossible": True}


def destination(text: str) -> tuple[Address, int]:
    """Address and port of `10.0.0.1:80` or `[fd00::1]:80`; ValueError where it is neither."""
    address, _, port = text.rpartition(":")
    number = int(port)
    if not 0 <= number <= 0xFFFF:
        raise ValueError(text)
    return addresses.parse(address.strip("[]")), number


def _impossible(condition: bool) -> _Fields:
    return _IMPOSSIBLE if condition else {}


def _comment(text: str) -> _Fields:
    match = _SERVICE.search(text)
    return {"service": match[1]} if match else {}


def _jump(target: str) -> _Fields:
    if target == "RETURN":
        return {"returns": True}
    if target in _VERDICTS:
        return {"stops": _VERDICTS[target]}
    return {} if target in _TARGETS else {"branches": (Branch(target),), "marks": target == "KUBE-MARK-MASQ"}


# What an option with this value, negated or not, adds to the fields of a Rule. Every option that is missing here is passed over: a match of
# a module that is not known makes a rule impossible by its -m already.
_OPTIONS: dict[str, Callable[[str, bool], _Fields]] = {
    "-s": lambda value, negated: {"source": Network.parse(value, negated=negated)},
    "-d": lambda value, negated: {"destination": Network.parse(value, negated=negated)},
    "-p": lambda value, negated: {"protocol": value} | _impossible(negated),
    "-m": lambda value, _: _impossible(value not in _KNOWN_MATCHES),
    "-i": lambda *_: _IMPOSSIBLE,
    "-o": lambda *_: _IMPOSSIBLE,
    "--dport": lambda value, negated: _IMPOSSIBLE if negated or ":" in value else {"port": int(value)},  # a range is nobody's Service
    "--sport": lambda *_: _IMPOSSIBLE,
    "--dst-type": lambda value, negated: {"to_node": True} if value == "LOCAL" and not negated else _IMPOSSIBLE,
    "--src-type": lambda value, negated: {"from_node": True} if value == "LOCAL" and not negated else _IMPOSSIBLE,
    "--ctstate": lambda value, negated: _impossible(("NEW" in value.split(",")) == negated),
    "--match-set": lambda value, negated: {"in_sets": ((value, negated),)},
    "--probability": lambda value, _: {"share": min(max(float(value), 0.0), 1.0)},
    "--comment": lambda value, _: _comment(value),
    "-j": lambda value, _: _jump(value),
    "-g": lambda value, _: {"branches": (Branch(value),), "goes": True},
    "--to-destination": lambda value, _: {"endpoints": (Endpoint(*destination(value), 1.0),)},
}
_FLAGS: dict[str, _Fields] = {"--rcheck": {"affinity": True}, "--update": {"affinity": True}}


def read_rule(text: str) -> Rule:
    """A rule from what follows `-A CHAIN`; ValueError where an address, port or number in it is none."""
    fields: _Fields = {}
    negated = False
    words = iter([quoted or plain for quoted, plain in _WORD.findall(text)])
    for word in words:
        if word in _OPTIONS:
            fields |= _OPTIONS[word](next(words, ""), negated)
        elif word in _FLAGS:
            fields |= _FLAGS[word]
        negated = word == "!"
    return Rule(**fields)


def _rule_or_none(text: str) -> Rule | None:
    try:
        return read_rule(text)
    except ValueError:
        return None


@dataclass(slots=True)
class Tables:
    """An iptables-save: rules by (IPv6?, table) and chain, and kube-proxy's own rules counted."""

    chains: dict[tuple[bool, str], dict[str, list[Rule]]] = field(default_factory=dict)
    kube_rules: int = 0

    def ruleset(self, ipv6: bool, sets: Sets) -> Ruleset:
        """The nat table of one family."""
        return Ruleset({name: Chain(rules) for name, rules in self.chains.get((ipv6, "nat"), {}).items()}, sets)

    def has(self, prefix: str) -> bool:
        """Whether any nat chain's name begins so."""
        return any(name.startswith(prefix) for (_, table), chains in self.chains.items() if table == "nat" for name in chains)


def read_tables(text: str, file: str) -> tuple[Tables, list[Problem]]:
    """The rules of an iptables-save, and Problems; never raises on content."""
    tables = Tables()
    problems: list[Problem] = []
    bad_lines, first_bad, ipv6, number = 0, -1, False, 0
    current: dict[str, list[Rule]] | None = None
    lines = text.split("\n")
    # Without a newline at its end the last line may be cut: only what has its own end is taken.
    if lines[-1].strip() and lines[-1].strip() != "COMMIT" and not lines[-1].startswith("#"):
        lines[-1] = ""
        problems.append(Problem(file, "the last line has no end and is left out", "the file was cut; record it again", len(lines), "note"))
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            ipv6 = "ip6tables-save" in line if "Generated by" in line else ipv6
        elif line.startswith("*"):
            current = tables.chains.setdefault((ipv6, line[1:].strip()), {})
        elif line.startswith("COMMIT"):
            current = None
        elif line.startswith(":") and current is not None:
            current.setdefault(line[1:].split(" ")[0], [])
        elif line.strip():
            match = _RULE.match(line)
            rule = _rule_or_none(match[2]) if match else None
            if match is None or current is None or rule is None:
                bad_lines += 1
                first_bad = number if first_bad < 0 else first_bad
            else:
                current.setdefault(match[1], []).append(rule)
                tables.kube_rules += match[1].startswith("KUBE-")
    if current is not None:
        problems.append(Problem(file, "a table has no COMMIT: its later rules are missing", "the file was cut; record it again", number))
    if bad_lines:
        what = f"{bad_lines} line{'s are' if bad_lines > 1 else ' is'} not iptables-save's; the first is line {first_bad}"
        problems.append(Problem(file, what, "the other lines were used; look at that line", first_bad))
    return tables, problems


class Iptables:
    """kube-proxy's iptables mode on one node."""

    mode = "iptables"

    def __init__(self, tables: Tables) -> None:
        self._rulesets = {ipv6: tables.ruleset(ipv6, {}) for ipv6 in _FAMILIES}
        nat = [rule for ruleset in self._rulesets.values() for chain in ruleset.chains.values() for rule in chain.rules]
        # Services without endpoints are turned away in the filter table.
        self._refused: list[Rule] = [
            rule
            for (_, table), chains in tables.chains.items()
            if table == "filter"
            for chain in (_SERVICES, "KUBE-EXTERNAL-SERVICES")
            for rule in chains.get(chain, [])
            if rule.stops is not None
        ]
        names = {rule.service for rule in (*nat, *self._refused)} - {None}
        self.services = len(names)
        self.endpoints = len({(endpoint.address, endpoint.port) for rule in nat for endpoint in rule.endpoints})
        self.rules = tables.kube_rules

    def path(self, packet: Packet, endpoint: tuple[Address, int] | None) -> ServicePath | None:
        """See `Backend.path`."""
        ruleset = self._rulesets[packet.ipv6]
        hooked = _HOOK in ruleset.chains and bool(ruleset.chains[_HOOK].rules)
        walk = ruleset.walk(_HOOK if hooked else _SERVICES, packet)
        path = service_path(walk, endpoint, 1 if hooked else 0)
        if path is not None or endpoint is not None:
            return path
        for rule in self._refused:
            if rule.matches(packet, {}) and rule.stops is not None and rule.port is not None:
                return ServicePath(rule.service, (_SERVICES,), walk.passed.walked, (), affinity=False, masquerade=None, verdict=rule.stops)
        return None
