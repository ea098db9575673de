"""A node with its client, its server and its instrument: what one mode, or none, is measured in; and the Services made up for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort, uniform
from probes.live.proxy_bench.caches import COLD, between
from probes.live.proxy_bench.fronts import Front, Fronts
from probes.live.proxy_bench.instrument import Instrument
from probes.live.proxy_bench.load import BURST, Load
from probes.live.proxy_bench.pairing import Pairs, pairs
from probes.live.proxy_bench.quiet import Forgetting
from probes.live.proxy_bench.road import Road, road
from probes.schema import Array

CLIENT, POD_CIDR, ENDPOINTS, SERVICES = "10.128.0.2", "10.128.0.0/9", "10.192.0.0/10", "10.96.0.0/12"
DATA_PACKETS = 3  # of a connection, after its handshake


@dataclass(frozen=True, slots=True)
class Burst:
    """Connections one after the other: `first_ns` (i8) of SYNs that were paired, each one's `position` (i8), `established_ns` (i8).

    `emptied_ns` (f8) is how long emptying the caches took before each connection, NaN where they were left warm.
    """

    first_ns: Array
    position: Array
    established_ns: Array
    emptied_ns: Array


class Place:
    """A road with its load and its instrument, and what may be asked of it."""

    def __init__(self, name: str, mode: str, client: str, fronts: Sequence[Front], stack: ExitStack, caches: str = COLD) -> None:
        networks = [ENDPOINTS] if client == CLIENT else _hosts(address for front in fronts for address, _ in front.endpoints)
        ports = [port for front in fronts for _, port in front.endpoints]
        beyond = [SERVICES] if client == CLIENT else [each for each in _hosts(front.address for front in fronts) if each not in networks]
        self.mode, self.fronts = mode, Fronts(fronts)
        self.road: Road = stack.enter_context(road(name, client, networks, beyond))
        self.load = Load(self.road, ports, between(caches))
        stack.callback(self.load.close)
        self.instrument = Instrument(self.road)
        stack.callback(self.instrument.close)
        self._conntrack = Forgetting(self.road)
        stack.callback(self._conntrack.close)

    def forget(self) -> None:
        """Let the node know no connection."""
        self._conntrack.forget()

    def pairs(self) -> Pairs:
        """What was seen on both sides since the last time."""
        return pairs(self.instrument.take(), self.instrument.client_ifindex, self.instrument.server_ifindex)

    def burst(self, positions: Array, *, direct: bool) -> Burst:
        """Connect to the Services at `positions` (`direct`: to an endpoint of each)."""
        found = []
        for begin in range(0, len(positions), BURST):
            some = positions[begin : begin + BURST].tolist()
            _, emptied_ns = self.load.connect(
                [self.fronts.fronts[each].endpoints[0] if direct else self.fronts.target(each) for each in some], DATA_PACKETS
            )
            seen = self.pairs()
            where = np.zeros(len(seen.first), "i8") if direct else self.fronts.positions(seen)
            first, later = seen.first & (where >= 0), ~seen.first & (where >= 0)
            found.append((seen.spent_ns[first], where[first], seen.spent_ns[later], emptied_ns))
        return Burst(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _hosts(addresses: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(f"{address}/32" for address in addresses))


def front_of(service: ServicePort) -> Front:
    """What clients ask of a generated Service."""
    return Front(service.cluster_ip, service.port, tuple((each.address, each.port) for each in service.endpoints))


def generated(services: int, endpoints: int) -> tuple[list[ServicePort], list[ServicePort]]:
    """So many Services; and the same with other endpoints of the last one."""
    hosts = (str(address) for address in ipaddress.ip_network(ENDPOINTS).hosts())
    before = uniform(services, endpoints, hosts)
    others = tuple(Endpoint(next(hosts), before[-1].endpoints[0].port, local=False) for _ in range(endpoints))
    return before, [*before[:-1], replace(before[-1], endpoints=others)]


NODE = NodeView(POD_CIDR)
