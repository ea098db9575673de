"""kube-proxy's nftables mode (pkg/proxy/nftables/proxier.go): the table kube-proxy of one family, as text for `nft -f`.

Maps find a Service by one look-up, so that no chain grows with their number. Loading grows with its square, for kube-proxy as for this
text: every Service has an anonymous map of its endpoints, and the kernel names each by looking through all there are
(nf_tables_set_alloc_name; on 6.18, 0.1 s of kernel time for 1,000 Services, 3.4 s for 5,000, 15 s for 10,000).

The text is spelled as `nft list ruleset` lists it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort
from probes.live.kube_proxy.policies import Targets, destination, digest, from_node, targets

TABLE = "kube-proxy"
_NAME_LENGTH = 240  # what a chain's name may have after its prefix (chainNameBaseLengthMax)
_AFFINITY_SIZE = 65535  # elements of a dynamic set where no size is given
_PORT = "inet_proto . inet_service"
_FRONT = f"{{addr}} . {_PORT}"
# Sets and maps: (name, kind, type, comment). Types name the family's addresses as {addr}.
_CONTAINERS = (
    ("hairpin-connections", "set", f"{{addr}} . {_FRONT}", "service hairpin connections"),
    ("cluster-ips", "set", "{addr}", "Active ClusterIPs"),
    ("nodeport-ips", "set", "{addr}", "IPs that accept NodePort traffic"),
    ("no-endpoint-services", "map", f"{_FRONT} : verdict", "vmap to drop or reject packets to services with no endpoints"),
    ("no-endpoint-nodeports", "map", f"{_PORT} : verdict", "vmap to drop or reject packets to service nodeports with no endpoints"),
    ("firewall-ips", "map", f"{_FRONT} : verdict", "destinations that are subject to LoadBalancerSourceRanges"),
    ("service-ips", "map", f"{_FRONT} : verdict", "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    ("service-nodeports", "map", f"{_PORT} : verdict", "NodePort traffic"),
)
_NEW = "ct state new jump"
_NEW_BEYOND = (f"{_NEW} service-endpoints-check", f"{_NEW} cluster-ips-check")
# Chains on hooks: (name, type, hook, priority, rules). Source ranges of balancers are judged before DNAT, the rest after it.
_BASE_CHAINS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("filter-prerouting-pre-dnat", "filter", "prerouting", "dstnat - 10", (f"{_NEW} firewall-check",)),
    ("filter-output-pre-dnat", "filter", "output", "-110", (f"{_NEW} firewall-check",)),
    ("filter-input", "filter", "input", "filter", (f"{_NEW} nodeport-endpoints-check", f"{_NEW} service-endpoints-check")),
    ("filter-forward", "filter", "forward", "filter", _NEW_BEYOND),
    ("filter-output", "filter", "output", "filter", _NEW_BEYOND),
    ("nat-prerouting", "nat", "prerouting", "dstnat", ("jump services",)),
    ("nat-output", "nat", "output", "-100", ("jump services",)),
    ("nat-postrouting", "nat", "postrouting", "srcnat", ("jump masquerading",)),
)


@dataclass(slots=True)
class _Table:
    """What the table holds: elements of the sets and maps, affinity sets with their seconds, chains with their rules."""

    elements: dict[str, dict[str, None]]
    affinity: dict[str, int] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)

    def element(self, container: str, text: str) -> None:
        """Add to a set or map; once is enough."""
        self.elements[container][text] = None

    def rule(self, chain: str, *rules: str) -> None:
        """Append to `chain`, which is made if it is new."""
        self.chains.setdefault(chain, []).extend(rules)


def ruleset(node: NodeView, services: Sequence[ServicePort]) -> str:
    """The table for `nft -f`, which adds to what is there: delete the table first to replace it."""
    table = _Table({name: {} for name, *_ in _CONTAINERS if node.addresses or name != "nodeport-ips"})
    _fixed(node, table)
    for service in services:
        _Rules(node, service, targets(service), table).write()
    return _text("ip6" if node.ipv6 else "ip", table)


def _fixed(node: NodeView, table: _Table) -> None:
    """What there is however many Services there are."""
    ip = "ip6" if node.ipv6 else "ip"
    for address in node.addresses[:1]:
        table.element("nodeport-ips", address)
    for name, kind, hook, priority, rules in _BASE_CHAINS:
        table.rule(name, f"type {kind} hook {hook} priority {priority}; policy accept;", *rules)
    lookup, port_lookup = f"{ip} daddr . meta l4proto . th dport vmap", "meta l4proto . th dport vmap"
    on_node, refused_on_node = (f"{ip} daddr @nodeport-ips",) * 2
    if not node.addresses:
        refused_on_node = f"{ip} daddr != {'::1' if node.ipv6 else '127.0.0.0/8'}"
        on_node = f"fib daddr type local {refused_on_node}"
    table.rule("nodeport-endpoints-check", f"{refused_on_node} {port_lookup} @no-endpoint-nodeports")
    table.rule("service-endpoints-check", f"{lookup} @no-endpoint-services")
    table.rule("firewall-check", f"{lookup} @firewall-ips")
    outside = f"{ip} daddr @cluster-ips {ip} saddr != {node.cluster_cidr} {_marking(node.mark)}"
    table.rule(
        "services",
        f'{outside} comment "masquerade clusterIP traffic from outside cluster"',
        f"{lookup} @service-ips",
        f"{on_node} {port_lookup} @service-nodeports",
    )
    table.rule(
        "masquerading",
        f"meta mark & {node.mark:#010x} != 0x00000000 meta mark set meta mark ^ {node.mark:#010x} masquerade fully-random",
        f"ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random",
    )
    table.rule("cluster-ips-check", f'{ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"')
    if node.service_cidrs:
        listed = node.service_cidrs[0] if len(node.service_cidrs) == 1 else f"{{ {', '.join(node.service_cidrs)} }}"
        table.rule("cluster-ips-check", f'{ip} daddr {listed} drop comment "Drop traffic to unallocated ClusterIPs"')
    table.rule("reject-chain", 'comment "helper for @no-endpoint-services / @no-endpoint-nodeports"', "reject")


def _marking(mark: int) -> str:
    return f"meta mark set meta mark | {mark:#010x}"


def _text(ip: str, table: _Table) -> str:
    addr = "ipv6_addr" if ip == "ip6" else "ipv4_addr"
    lines = [f"table {ip} {TABLE} {{", '\tcomment "rules for kube-proxy"']
    for name, kind, type_, says in _CONTAINERS:
        if name not in table.elements:
            continue
        lines += [f"\t{kind} {name} {{", f"\t\ttype {type_.format(addr=addr)}", f'\t\tcomment "{says}"']
        if table.elements[name]:
            lines.append(f"\t\telements = {{ {', '.join(table.elements[name])} }}")
        lines.append("\t}\n")
    for name, seconds in table.affinity.items():
        settings = (f"type {addr}", f"size {_AFFINITY_SIZE}", "flags dynamic,timeout", f"timeout {_duration(seconds)}")
        lines += [f"\tset {name} {{", *(f"\t\t{setting}" for setting in settings), "\t}\n"]
    for name, rules in table.chains.items():
        lines += [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in rules), "\t}\n"]
    return "\n".join([*lines, "}", ""])


def _duration(seconds: int) -> str:
    """As nft prints it: 5400 is 1h30m."""
    parts = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


@dataclass(frozen=True, slots=True)
class _Rules:
    """Elements and chains of one Service port."""

    node: NodeView
    service: ServicePort
    targets: Targets
    table: _Table

    def write(self) -> None:
        """All of them."""
        self._addresses()
        self._node_port()
        for endpoint in self.targets.reachable:
            if endpoint.local:
                self.table.element("hairpin-connections", " . ".join([endpoint.address, self._key(endpoint.address, endpoint.port)]))
        if self.service.affinity_seconds:
            for endpoint in self.targets.reachable:
                self._endpoint_chain(endpoint)
        for chain, endpoints in ((self._chain("service"), self.targets.cluster), (self._chain("local"), self.targets.local)):
            if endpoints:
                self.table.rule(chain, *self._balancing(endpoints))
        if self.targets.served and self.service.external:
            self._external_chain()
        if self._firewalled:
            sources: tuple[str, ...] = self.service.source_ranges
            if from_node(self.node, self.service):
                sources += self.service.load_balancer_ips
            self.table.rule(self._chain("firewall"), f"{self._ip} saddr != {{ {', '.join(sources)} }} drop")

    @property
    def _ip(self) -> str:
        return "ip6" if self.node.ipv6 else "ip"

    @property
    def _firewalled(self) -> bool:
        return bool(self.service.load_balancer_ips and self.service.source_ranges)

    @property
    def _base(self) -> str:
        return f"{self.service.namespace}/{self.service.name}/{self.service.protocol}/{self.service.port_name}"

    def _chain(self, kind: str) -> str:
        return f"{kind}-{_hashed(self._base)}"

    def _of_endpoint(self, kind: str, endpoint: Endpoint) -> str:
        address = endpoint.address.replace(":", ".")
        return f"{kind}-{_hashed(f'{self._base}__{address}/{endpoint.port}')}"

    def _key(self, address: str, port: int) -> str:
        return f"{address} . {self.service.protocol} . {port}"

    def _refuse(self, container: str, key: str) -> None:
        """Packets that have no endpoint to go to."""
        verdict = "drop" if self.targets.served else "goto reject-chain"
        self.table.element(container, f'{key} comment "{self.service.full_name}" : {verdict}')

    def _addresses(self) -> None:
        service, external = self.service, self._chain("external")
        self.table.element("cluster-ips", service.cluster_ip)
        key = self._key(service.cluster_ip, service.port)
        if self.targets.inside:
            self.table.element("service-ips", f"{key} : goto {self._chain('local' if service.internal_local else 'service')}")
        else:
            self._refuse("no-endpoint-services", key)
        for address in (*service.external_ips, *service.load_balancer_ips):
            key = self._key(address, service.port)
            if self.targets.served:
                self.table.element("service-ips", f"{key} : goto {external}")
            if not self.targets.outside:
                self._refuse("no-endpoint-services", key)
        if self._firewalled:
            for address in service.load_balancer_ips:
                self.table.element("firewall-ips", f"{self._key(address, service.port)} : goto {self._chain('firewall')}")

    def _node_port(self) -> None:
        if not self.service.node_port:
            return
        key = f"{self.service.protocol} . {self.service.node_port}"
        if self.targets.served:
            self.table.element("service-nodeports", f"{key} : goto {self._chain('external')}")
        if not self.targets.outside:
            self._refuse("no-endpoint-nodeports", key)

    def _external_chain(self) -> None:
        chain, cluster, mark, own = self._chain("external"), self._chain("service"), _marking(self.node.mark), "fib saddr type local"
        if self.service.external_local:
            self.table.rule(
                chain,
                f'{self._ip} saddr {self.node.cluster_cidr} goto {cluster} comment "short-circuit pod traffic"',
                f'{own} {mark} comment "masquerade local traffic"',
                f'{own} goto {cluster} comment "short-circuit local traffic"',
            )
        else:
            self.table.rule(chain, f'{mark} comment "masquerade"')
        if self.targets.outside:
            self.table.rule(chain, f"goto {self._chain('local') if self.service.external_local else cluster}")

    def _balancing(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """To one of the endpoints by chance, with affinity to the one that the client had lately."""
        chance = f"numgen random mod {len(endpoints)}"
        if not self.service.affinity_seconds:
            listed = ", ".join(f"{number} : {each.address} . {each.port}" for number, each in enumerate(endpoints))
            return [f"meta l4proto {self.service.protocol} dnat {self._ip} to {chance} map {{ {listed} }}"]
        chains = [self._of_endpoint("endpoint", each) for each in endpoints]
        lately = [
            f"{self._ip} saddr @{self._of_endpoint('affinity', each)} goto {chain}" for each, chain in zip(endpoints, chains, strict=True)
        ]
        listed = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
        return [*lately, f"{chance} vmap {{ {listed} }}"]

    def _endpoint_chain(self, endpoint: Endpoint) -> None:
        """Only affinity needs one: the client is noted before its packet is translated."""
        clients = self._of_endpoint("affinity", endpoint)
        self.table.affinity[clients] = self.service.affinity_seconds or 0
        self.table.rule(
            self._of_endpoint("endpoint", endpoint),
            f"update @{clients} {{ {self._ip} saddr }}",
            f"meta l4proto {self.service.protocol} dnat to {destination(endpoint)}",
        )


def _hashed(name: str) -> str:
    """`name` with its hash before it, not longer than a chain's name may be (hashAndTruncate)."""
    full = f"{digest(name, 8)}-{name}"
    return full if len(full) <= _NAME_LENGTH else f"{full[: _NAME_LENGTH - 3]}..."
