"""kube-proxy's nftables mode, from `nft list ruleset`.

Names are those of kube-proxy (pkg/proxy/nftables/proxier.go): tables `ip kube-proxy` and `ip6 kube-proxy`; chain `services` looks an
address up in the maps `service-ips` and `service-nodeports`, which lead to a Service port's own chains (service-…, local-…, external-…,
whose names hold namespace, name, protocol and port name) and from there to an endpoint in one step of chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from probes import addresses
from probes.addresses import Address
from probes.schema import Problem
from tracer.rules.iptables import destination
from tracer.rules.model import Branch, Endpoint, Key, Network, Packet, Rule, ServicePath
from tracer.rules.walk import Chain, Ruleset, service_path

_Read = TypeVar("_Read")
TABLE = "kube-proxy"
_HOOK, _NODE_ADDRESSES = "nat-prerouting", "nodeport-ips"
_TABLE = re.compile(r"table (\S+) (\S+) \{$")
_BLOCK = re.compile(r"(chain|set|map) (\S+) \{$")
_ELEMENTS = re.compile(r"elements = \{([^{}]*)\}")
_SERVICE_CHAIN = re.compile(r"(?:service|local|external|endpoint|firewall)-[A-Z0-9]{8}-([^/]+)/([^/]+)/\w+/([^/_]*)")
_COMMENT = re.compile(r'comment "([^"]*)"')
_ADDRESS = r"[0-9a-fA-F][0-9a-fA-F.:]*|::[0-9a-fA-F.:]*"
_VERDICT = re.compile(r"(?:goto|jump) (\S+)|\b(drop|reject|accept)\b")
_MARKS = re.compile(r"meta mark set|jump mark-for-masquerade")
_NUMGEN = re.compile(r"numgen random mod \d+ v?map \{(.*)\}")
_BRANCH = re.compile(r"\d+ : goto ([^\s,}]+)")
_TARGET = re.compile(rf"\d+ : ({_ADDRESS}) \. (\d+)")
_NOT_FIRST = re.compile(r"ct state (?!.*\bnew\b)|ct status dnat|meta mark &|[io]if")  # what a new packet at this hook does not meet

# One step per fact that a rule's text may hold: an expression, and what its match adds to the fields of a Rule.
_FACTS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], dict[str, Any]]]] = [
    (re.compile(rf"ip6? saddr (!= )?((?:{_ADDRESS})(?:/\d+)?)"), lambda m: {"source": Network.parse(m[2], negated=bool(m[1]))}),
    (re.compile(rf"ip6? daddr (!= )?((?:{_ADDRESS})(?:/\d+)?)"), lambda m: {"destination": Network.parse(m[2], negated=bool(m[1]))}),
    (re.compile(r"ip6? daddr (!= )?@(\S+)"), lambda m: {"in_sets": ((m[2], bool(m[1])),)}),
    (re.compile(r"ip6? saddr @(\S+)"), lambda m: {"affinity": m[1].startswith("affinity-"), "impossible": True}),
    (re.compile(r"fib saddr type local"), lambda _: {"from_node": True}),
    (re.compile(r"fib daddr type local"), lambda _: {"to_node": True}),
    (re.compile(r"meta l4proto (tcp|udp|sctp)"), lambda m: {"protocol": m[1]}),
    (re.compile(r"(tcp|udp|sctp) dport (\d+)\b"), lambda m: {"protocol": m[1], "port": int(m[2])}),
    (re.compile(r"vmap @(\S+)"), lambda m: {"lookup": m[1]}),
    (re.compile(r"dnat (?:ip6? )?to (\S+:\d+)$"), lambda m: {"endpoints": (Endpoint(*destination(m[1]), 1.0),)}),
    (re.compile(r"(?:^|\s)(jump|goto) (\S+)"), lambda m: {"branches": (Branch(m[2]),), "goes": m[1] == "goto", "service": _service(m[2])}),
    (re.compile(r"\breturn$"), lambda _: {"returns": True}),
    (re.compile(r"(?:^|\s)(drop|reject|accept)\b"), lambda m: {"stops": m[1]}),
    (_NUMGEN, lambda m: _chance(m[1])),
    (_MARKS, lambda _: {"marks": True}),
    (_NOT_FIRST, lambda _: {"impossible": True}),
]


def _service(chain: str) -> str | None:
    """`namespace/name:port` of a Service port's chain; None for others, and where kube-proxy had to shorten the name."""
    match = _SERVICE_CHAIN.match(chain)
    if match is None or chain.endswith("..."):
        return None
    namespace, name, port = match.groups()
    return f"{namespace}/{name}:{port}" if port else f"{namespace}/{name}"


def _chance(elements: str) -> dict[str, Any]:
    """`numgen random mod N` with a map of chains or of endpoints, each equally likely."""
    targets, chains = _TARGET.findall(elements), _BRANCH.findall(elements)
    if chains:
        return {"branches": tuple(Branch(chain, 1 / len(chains)) for chain in chains), "goes": True}
    return {"endpoints": tuple(Endpoint(*destination(f"[{address}]:{port}"), 1 / len(targets)) for address, port in targets)}


def read_rule(text: str) -> Rule:
    """A rule from a line of a chain; ValueError where an address or port in it is none."""
    fields: dict[str, Any] = {}
    statement = _COMMENT.sub("", text).strip()
    for pattern, add in _FACTS:
        if match := pattern.search(statement):
            fields.update(add(match))
    return Rule(**fields)


def _key(text: str) -> Key:
    """A set's element or a map's key: an address, `address . protocol . port` or `protocol . port`; ValueError otherwise."""
    parts = text.split(" . ")
    if len(parts) == 3:
        return addresses.parse(parts[0]), parts[1], int(parts[2])
    return (parts[0], int(parts[1])) if len(parts) == 2 else addresses.parse(parts[0])


def _verdict(text: str) -> Rule:
    """A map's value as a rule without conditions; ValueError where it is no verdict."""
    match = _VERDICT.search(text)
    if match is None:
        raise ValueError(text)
    comment = _COMMENT.search(text)
    service = comment[1] if comment else None
    if match[1] is None:
        return Rule(stops=match[2], service=service)
    if match[1] in ("reject-chain", "drop-chain"):
        return Rule(stops=match[1].removesuffix("-chain"), service=service)
    return Rule(branches=(Branch(match[1]),), goes=True, service=_service(match[1]) or service)


def _pair(element: str) -> tuple[Key, Rule]:
    """An element of a verdict map: `key [comment "…"] : verdict`."""
    key, _, verdict = element.rpartition(" : ")
    comment = _COMMENT.search(key)
    return _key(_COMMENT.sub("", key).strip()), _verdict(f"{verdict} {comment[0] if comment else ''}")


@dataclass(slots=True)
class Table:
    """One family's kube-proxy table as text: rules by chain, elements by set and map."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    elements: dict[str, list[str]] = field(default_factory=dict)
    maps: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Listing:
    """What `nft list ruleset` holds of interest: kube-proxy's tables by family, and whether it shows iptables' rules translated."""

    tables: dict[str, Table] = field(default_factory=dict)
    iptables_chains: int = 0


def read_listing(text: str, file: str) -> tuple[Listing, list[Problem]]:
    """Split a listing into tables and blocks; a block that is not closed is used as far as it goes."""
    listing = Listing()
    table: Table | None = None
    opened: tuple[str, str] | None = None
    body: list[str] = []
    depth = 0
    lines = text.split("\n")
    whole = lines if lines[-1].strip() in ("", "}") else lines[:-1]
    closed = len(whole) == len(lines)
    for number, line in enumerate((*whole, "}")):  # the last brace closes a block that the dump left open
        stripped = line.strip()
        closed &= number < len(whole) or depth == 0
        if depth == 0 and (match := _TABLE.match(stripped)):
            table = listing.tables.setdefault(match[1], Table()) if match[2] == TABLE else None
            depth = 1
        elif depth >= 1 and (match := _BLOCK.match(stripped)):
            if depth == 2 and opened is not None and table is not None:
                _close(table, *opened, body)
            closed &= depth == 1
            opened, body, depth = (match[1], match[2]), [], 2
            listing.iptables_chains += match[2].startswith(("KUBE-SVC-", "KUBE-SEP-"))
        elif stripped == "}":
            if depth == 2 and opened is not None and table is not None:
                _close(table, *opened, body)
            depth = max(depth - 1, 0)
        elif depth == 2 and stripped:
            body.append(stripped)
    what = "a table or block is not closed: rules are missing"
    return listing, [] if closed else [Problem(file, what, "the file was cut; record it again", len(lines))]


def _close(table: Table, kind: str, name: str, body: list[str]) -> None:
    if kind == "chain":
        table.chains[name] = [line for line in body if not line.startswith(("type ", "comment ", "policy "))]
        return
    joined = " ".join(body)
    # A cut list has no closing brace: its last element may be half.
    match = _ELEMENTS.search(joined)
    text = match[1] if match else joined.partition("elements = {")[2].rpartition(",")[0]
    table.elements[name] = [element.strip() for element in text.split(",") if element.strip()]
    if kind == "map":
        table.maps.add(name)


class Nftables:
    """kube-proxy's nftables mode on one node."""

    mode = "nftables"

    def __init__(self, tables: dict[str, Table], file: str) -> None:
        self.problems: list[Problem] = []
        self._bad: list[str] = []
        self._rulesets = {ipv6: self._ruleset(tables[family]) for family, ipv6 in (("ip", False), ("ip6", True)) if family in tables}
        if self._bad:
            what = f"{len(self._bad)} of kube-proxy's nftables rules or elements are not understood, the first: {self._bad[0][:80]}"
            self.problems.append(Problem(file, what, "the others were used"))
        verdicts = [rule for ruleset in self._rulesets.values() for named in ruleset.maps.values() for rule in named.values()]
        rules = [rule for ruleset in self._rulesets.values() for chain in ruleset.chains.values() for rule in chain.rules]
        self.services = len({rule.service for rule in verdicts} - {None})
        self.endpoints = len({(endpoint.address, endpoint.port) for rule in rules for endpoint in rule.endpoints})
        self.rules = len(rules)

    def _ruleset(self, table: Table) -> Ruleset:
        chains = {name: Chain([rule for line in lines for rule in self._read(read_rule, line)]) for name, lines in table.chains.items()}
        maps: dict[str, dict[Key, Rule]] = {}
        sets: dict[str, frozenset[Key]] = {}
        for name, elements in table.elements.items():
            if name in table.maps:
                maps[name] = dict(pair for element in elements for pair in self._read(_pair, element))
            elif not name.startswith(("affinity-", "hairpin-")):
                sets[name] = frozenset(key for element in elements for key in self._read(_key, element))
        return Ruleset(chains, sets, maps)

    def _read(self, reader: Callable[[str], _Read], text: str) -> list[_Read]:
        try:
            return [reader(text)]
        except ValueError:
            self._bad.append(text)
            return []

    def path(self, packet: Packet, endpoint: tuple[Address, int] | None) -> ServicePath | None:
        """See `Backend.path`. Services without endpoints are looked up in maps of their own, at other hooks."""
        ruleset = self._rulesets.get(packet.ipv6)
        if ruleset is None:
            return None
        accepting = [key for key in ruleset.sets.get(_NODE_ADDRESSES, ()) if isinstance(key, tuple) and isinstance(key[0], int)]
        if packet.destination is None and accepting:
            hi, lo = min(accepting)[:2]
            packet = replace(packet, destination=(int(hi), int(lo)))
        walk = ruleset.walk(_HOOK, packet)
        path = service_path(walk, endpoint, 1)
        if path is not None or endpoint is not None:
            return path
        for name in ("no-endpoint-services", "no-endpoint-nodeports") if packet.to_node else ("no-endpoint-services",):
            refused = [ruleset.maps[name][key] for key in packet.keys if key in ruleset.maps.get(name, {})]
            for rule in refused:
                walked = walk.passed.walked
                return ServicePath(rule.service, ("services",), walked, (), affinity=False, masquerade=None, verdict=rule.stops or "drop")
        return None
