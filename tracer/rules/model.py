"""The nouns of kube-proxy's rules: packets that ask, rules that answer, and the paths that come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from probes import addresses
from probes.addresses import Address

# An element of a set or a key of a map: an address, a port, (protocol, port) or (address, protocol, port).
Key = Address | int | tuple[str, int] | tuple[Address, str, int]
Sets = Mapping[str, frozenset[Key]]


class Endpoint(NamedTuple):
    """Where a Service's packets can go. `share` is the probability of a new connection, in IPVS the weight."""

    address: Address
    port: int
    share: float


@dataclass(frozen=True, slots=True)
class ServicePath:
    """What the first packet of a connection to a Service's address meets on this node.

    `service` is "namespace/name:port" as kube-proxy writes it ("namespace/name" where the port has no name), None where the rules do not
    tell (IPVS). `chains` are those from KUBE-SERVICES (nftables: services) to the rule that decides. `rules_walked` counts the rules
    evaluated in the nat table from the prerouting hook on; a map or set lookup is one rule, however many elements it has. `masquerade`
    says whether the source will be translated too, None where that depends on an unknown source. `verdict` is "dnat", or "reject" or
    "drop" for a Service without endpoints. `scheduler`, `forwarding` ("masq", "route", "tunnel") and `sets` (kube-proxy's ipsets that
    hold this address, by name) are IPVS's.
    """

    service: str | None
    chains: tuple[str, ...]
    rules_walked: int
    endpoints: tuple[Endpoint, ...]
    affinity: bool
    masquerade: bool | None
    verdict: str = "dnat"
    scheduler: str | None = None
    forwarding: str | None = None
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Packet:
    """A first packet. `destination` is None for "any address of this node" (`to_node`); `source` None where unknown."""

    destination: Address | None
    port: int
    protocol: str
    source: Address | None = None
    to_node: bool = False
    ipv6: bool = False

    @property
    def keys(self) -> tuple[Key, ...]:
        """Everything a set may hold that this packet matches."""
        whole: tuple[Key, ...] = ()
        if self.destination is not None:
            whole = (self.destination, (self.destination, self.protocol, self.port))
        return (*whole, self.port, (self.protocol, self.port))


@dataclass(frozen=True, slots=True)
class Network:
    """An address and prefix; `negated` for "not in it"."""

    value: int
    mask: int
    negated: bool = False

    @classmethod
    def parse(cls, text: str, *, negated: bool = False) -> Network:
        """From `10.96.0.1/32` or a bare address (v4 is IPv4-mapped); ValueError where it is neither."""
        address, _, length = text.partition("/")
        hi, lo = addresses.parse(address)
        bits = 128 if not length else int(length) + (0 if ":" in address else 96)
        if not 0 <= bits <= 128:
            raise ValueError(text)
        mask = (1 << 128) - (1 << 128 - bits)
        return cls((hi << 64 | lo) & mask, mask, negated)

    @property
    def host(self) -> Address | None:
        """The one address this stands for, None where it stands for many."""
        one = self.mask == (1 << 128) - 1 and not self.negated
        return (self.value >> 64, self.value & 0xFFFF_FFFF_FFFF_FFFF) if one else None

    def matches(self, address: Address) -> bool:
        """Whether a rule with this network lets the address through."""
        return ((address[0] << 64 | address[1]) & self.mask == self.value) != self.negated


class Branch(NamedTuple):
    """A chain that a rule sends packets to, and how likely."""

    chain: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it asks of a packet, and what it then does. What is not asked is None, False or empty.

    `impossible` stands for matches that a first packet does not meet or that are not understood. `marks` asks for masquerade. `lookup` is a
    verdict map, `returns` and `stops` end a chain and the walk (`stops` names the verdict).
    """

    source: Network | None = None
    destination: Network | None = None
    protocol: str | None = None
    port: int | None = None
    in_sets: tuple[tuple[str, bool], ...] = ()  # name, negated
    to_node: bool = False
    from_node: bool = False
    impossible: bool = False
    affinity: bool = False
    share: float = 1.0
    marks: bool = False
    branches: tuple[Branch, ...] = ()
    goes: bool = False  # nft's goto, iptables' -g: the chain does not come back here
    lookup: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    returns: bool = False
    stops: str | None = None
    service: str | None = None

    def matches(self, packet: Packet, sets: Sets) -> bool | None:
        """Whether the packet meets the rule; None where that depends on its unknown source."""
        if (
            self.impossible
            or self.affinity
            or self.from_node  # who asks is no process of this node
            or (self.to_node and not packet.to_node)
            or self.protocol not in (None, packet.protocol)
            or self.port not in (None, packet.port)
        ):
            return False
        if self.destination is not None and not self._destination_matches(self.destination, packet):
            return False
        for name, negated in self.in_sets:
            if (not sets.get(name, frozenset()).isdisjoint(packet.keys)) == negated:
                return False
        if self.source is None:
            return True
        return None if packet.source is None else self.source.matches(packet.source)

    @staticmethod
    def _destination_matches(network: Network, packet: Packet) -> bool:
        # "Any address of this node" is in no network that rules name (they name Services, or localhost).
        return network.negated if packet.destination is None else network.matches(packet.destination)


class Backend(Protocol):
    """One way of doing Services, as read from a node's dumps."""

    mode: str
    services: int
    endpoints: int
    rules: int

    def path(self, packet: Packet, endpoint: tuple[Address, int] | None) -> ServicePath | None:
        """The path of a first packet (to this endpoint, where one is given); None where these rules know nothing of it."""
        ...
