"""kube-proxy's iptables mode (pkg/proxy/iptables/proxier.go): chains and rules for Services, as text for iptables-restore.

One text serves iptables-legacy-restore and iptables-nft-restore. It is spelled as iptables-save spells what is in the kernel, which is how
dumps from nodes look; kube-proxy's own spelling gives the same rules. Its canary chains and its hints to kubelet are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort
from probes.live.kube_proxy.policies import Targets, destination, digest, from_node, targets

# The jumps from built-in chains: (table, chain, matches, comment, to), in the order that they are met (iptablesJumpChains, each prepended).
_NEW = "-m conntrack --ctstate NEW "
_JUMPS = (
    ("filter", "INPUT", "", "", "KUBE-FIREWALL"),
    ("filter", "INPUT", _NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"),
    ("filter", "INPUT", "", "kubernetes health check service ports", "KUBE-NODEPORTS"),
    ("filter", "INPUT", _NEW, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES"),
    ("filter", "FORWARD", _NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD"),
    ("filter", "FORWARD", _NEW, "kubernetes service portals", "KUBE-SERVICES"),
    ("filter", "FORWARD", _NEW, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES"),
    ("filter", "OUTPUT", "", "", "KUBE-FIREWALL"),
    ("filter", "OUTPUT", _NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"),
    ("filter", "OUTPUT", _NEW, "kubernetes service portals", "KUBE-SERVICES"),
    ("nat", "PREROUTING", "", "kubernetes service portals", "KUBE-SERVICES"),
    ("nat", "OUTPUT", "", "kubernetes service portals", "KUBE-SERVICES"),
    ("nat", "POSTROUTING", "", "kubernetes postrouting rules", "KUBE-POSTROUTING"),
)
_CHAINS = {
    "filter": ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL"),
    "nat": ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"),
}
_LAST = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
# More endpoints than these and the rules of endpoints bear no comments (largeClusterEndpointsThreshold).
LARGE_CLUSTER = 1000
# xt_statistic keeps a probability as 31 bits (net/netfilter/xt_statistic.c); kube-proxy writes it with ten digits.
_WHOLE = 1 << 31


@dataclass(slots=True)
class Table:
    """Chains of one table and their rules, in order."""

    name: str
    chains: dict[str, list[str]] = field(default_factory=dict)

    def add(self, chain: str, *rules: str) -> None:
        """Append to `chain`, which is made if it is new."""
        self.chains.setdefault(chain, []).extend(rules)

    def text(self) -> str:
        """As iptables-restore reads it."""
        own = [f":{chain} - [0:0]" for chain in self.chains if chain.startswith("KUBE-")]
        rules = [f"-A {chain} {rule}" for chain, rules in self.chains.items() for rule in rules]
        return "\n".join([f"*{self.name}", *own, *rules, "COMMIT", ""])


def comment(text: str) -> str:
    """A match that only says something, quoted as iptables-save quotes it."""
    quoted = text.replace("'", "\\'")
    return f'-m comment --comment "{quoted}"'


def masquerading(mark: int) -> list[str]:
    """The end of KUBE-POSTROUTING: what bears the mark loses it and leaves with an address of this node."""
    return [
        f"-m mark ! --mark {mark:#x}/{mark:#x} -j RETURN",
        f"-j MARK --set-xmark {mark:#x}/0x0",
        f"{comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
    ]


def forwarding(mark: int) -> list[str]:
    """The end of KUBE-FORWARD: what bears the mark may pass, and what belongs to it."""
    return [
        f"{comment('kubernetes forwarding rules')} -m mark --mark {mark:#x}/{mark:#x} -j ACCEPT",
        f"{comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]


def restore(node: NodeView, services: Sequence[ServicePort]) -> str:
    """The tables filter and nat for iptables-restore (ip6tables-restore for an IPv6 view), Services in the order given."""
    tables = {name: Table(name, {chain: [] for chain in chains}) for name, chains in _CHAINS.items()}
    for table, chain, matches, says, to in _JUMPS:
        tables[table].add(chain, f"{matches}{comment(says) + ' ' if says else ''}-j {to}")
    _fixed(node, tables["filter"], tables["nat"])
    large = sum(len(service.endpoints) for service in services) > LARGE_CLUSTER
    for service in services:
        _Rules(node, service, targets(service), tables["filter"], tables["nat"], large).write()
    elsewhere = "! -d ::1/128 " if node.ipv6 else ""
    tables["nat"].add("KUBE-SERVICES", f"{elsewhere}{comment(_LAST)} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    return "".join(table.text() for table in tables.values())


def _fixed(node: NodeView, filters: Table, nat: Table) -> None:
    """What there is however many Services there are."""
    if not node.ipv6:  # against CVE-2020-8558, which route_localnet opened
        local = f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {comment('block incoming localnet connections')}"
        filters.add("KUBE-FIREWALL", f"{local} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")
    counted = "-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts " if node.accounting else ""
    filters.add("KUBE-FORWARD", f"-m conntrack --ctstate INVALID {counted}-j DROP", *forwarding(node.mark))
    nat.add("KUBE-POSTROUTING", *masquerading(node.mark))
    nat.add("KUBE-MARK-MASQ", f"-j MARK --set-xmark {node.mark:#x}/{node.mark:#x}")


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one Service port."""

    node: NodeView
    service: ServicePort
    targets: Targets
    filters: Table
    nat: Table
    large: bool

    def write(self) -> None:
        """All of them."""
        self._cluster_ip()
        self._external_addresses()
        self._node_port()
        if self.targets.served and self.service.external:
            self._external_chain()
            if self._firewalled:
                self._firewall_chain()
        for chain, endpoints in ((self._chain("SVC"), self.targets.cluster), (self._chain("SVL"), self.targets.local)):
            if endpoints:
                self.nat.add(chain, *self._balancing(endpoints))
        for endpoint in self.targets.reachable:
            self._endpoint_chain(endpoint)

    def _chain(self, kind: str) -> str:
        return f"KUBE-{kind}-{digest(self.service.full_name + self.service.protocol, 16)}"

    def _endpoint(self, endpoint: Endpoint) -> str:
        return f"KUBE-SEP-{digest(self.service.full_name + self.service.protocol + destination(endpoint), 16)}"

    def _address(self, address: str) -> str:
        return f"{address}/128" if self.node.ipv6 else f"{address}/32"

    def _to(self, address: str, says: str, port: int) -> str:
        """Packets to a port of `address`."""
        return f"-d {self._address(address)} {self._to_port(says, port)}"

    def _to_port(self, says: str, port: int, between: str = "") -> str:
        proto = self.service.protocol
        return f"-p {proto} {comment(f'{self.service.full_name}{says}')} {between}-m {proto} --dport {port}"

    @property
    def _firewalled(self) -> bool:
        return bool(self.targets.served and self.service.load_balancer_ips and self.service.source_ranges)

    @property
    def _refusal(self) -> tuple[str, str]:
        """(what the comment says, target) of packets that have no endpoint to go to."""
        if self.targets.served:
            return " has no local endpoints", "DROP"
        return " has no endpoints", f"REJECT --reject-with {'icmp6' if self.node.ipv6 else 'icmp'}-port-unreachable"

    def _cluster_ip(self) -> None:
        service = self.service
        if not self.targets.inside:
            says, target = self._refusal
            self.filters.add("KUBE-SERVICES", f"{self._to(service.cluster_ip, says, service.port)} -j {target}")
            return
        chain = self._chain("SVL" if service.internal_local else "SVC")
        match = self._to(service.cluster_ip, " cluster IP", service.port)
        self.nat.add("KUBE-SERVICES", f"{match} -j {chain}")
        self.nat.add(chain, f"! -s {self.node.cluster_cidr} {match} -j KUBE-MARK-MASQ")

    def _external_addresses(self) -> None:
        service, external = self.service, self._chain("EXT")
        balanced = self._chain("FW") if self._firewalled else external
        says, target = self._refusal
        kinds = ((service.external_ips, " external IP", external), (service.load_balancer_ips, " loadbalancer IP", balanced))
        for addresses, kind, chain in kinds:
            for address in addresses:
                if self.targets.served:
                    self.nat.add("KUBE-SERVICES", f"{self._to(address, kind, service.port)} -j {chain}")
                if not self.targets.outside:
                    self.filters.add("KUBE-EXTERNAL-SERVICES", f"{self._to(address, says, service.port)} -j {target}")
        if self._firewalled:
            for address in service.load_balancer_ips:
                match = self._to(address, f" traffic not accepted by {balanced}", service.port)
                self.filters.add("KUBE-PROXY-FIREWALL", f"{match} -j DROP")

    def _node_port(self) -> None:
        service = self.service
        if service.node_port:
            match, chain = self._to_port("", service.node_port), self._chain("EXT")
            if self.targets.served:
                if self.node.accounting and not self.node.ipv6:
                    counted = "-m nfacct --nfacct-name  localhost_nps_accepted_pkts"
                    self.nat.add("KUBE-NODEPORTS", f"-d 127.0.0.0/8 {match} {counted} -j {chain}")
                self.nat.add("KUBE-NODEPORTS", f"{match} -j {chain}")
            if not self.targets.outside:
                says, target = self._refusal
                refused = self._to_port(says, service.node_port, "-m addrtype --dst-type LOCAL ")
                self.filters.add("KUBE-EXTERNAL-SERVICES", f"{refused} -j {target}")
        if service.health_check_node_port:
            says = comment(f"{service.full_name} health check node port")
            self.filters.add("KUBE-NODEPORTS", f"-p tcp {says} -m tcp --dport {service.health_check_node_port} -j ACCEPT")

    def _external_chain(self) -> None:
        def says(text: str) -> str:
            return comment(f"{text} for {self.service.full_name} external destinations")

        chain, cluster, own = self._chain("EXT"), self._chain("SVC"), "-m addrtype --src-type LOCAL"
        if self.service.external_local:
            self.nat.add(chain, f"-s {self.node.cluster_cidr} {says('pod traffic')} -j {cluster}")
            self.nat.add(chain, f"{says('masquerade LOCAL traffic')} {own} -j KUBE-MARK-MASQ")
            self.nat.add(chain, f"{says('route LOCAL traffic')} {own} -j {cluster}")
        else:
            self.nat.add(chain, f"{says('masquerade traffic')} -j KUBE-MARK-MASQ")
        if self.targets.outside:
            self.nat.add(chain, f"-j {self._chain('SVL') if self.service.external_local else cluster}")

    def _firewall_chain(self) -> None:
        chain, name = self._chain("FW"), self.service.full_name
        allowed: Iterable[str] = self.service.source_ranges
        if from_node(self.node, self.service):
            allowed = (*allowed, *map(self._address, self.service.load_balancer_ips))
        for source in allowed:
            self.nat.add(chain, f"-s {source} {comment(f'{name} loadbalancer IP')} -j {self._chain('EXT')}")
        self.nat.add(chain, comment(f"other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL"))

    def _recent(self, what: str, endpoint: Endpoint) -> str:
        """xt_recent's list of the clients that `endpoint` has had."""
        mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" if self.node.ipv6 else "255.255.255.255"
        return f"-m recent {what} --name {self._endpoint(endpoint)} --mask {mask} --rsource"

    def _says(self, what: str) -> str:
        """The comment of a rule about an endpoint."""
        return "" if self.large else f"{comment(self.service.full_name + what)} "

    def _balancing(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """To the endpoint that the client had lately, else to one of them by chance."""
        rules = []
        says = {each: self._says(f" -> {destination(each)}") for each in endpoints}
        if self.service.affinity_seconds:
            for endpoint in endpoints:
                recent = self._recent(f"--rcheck --seconds {self.service.affinity_seconds} --reap", endpoint)
                rules.append(f"{says[endpoint]}{recent} -j {self._endpoint(endpoint)}")
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            chance = f"-m statistic --mode random --probability {_probability(left)} " if left > 1 else ""
            rules.append(f"{says[endpoint]}{chance}-j {self._endpoint(endpoint)}")
        return rules

    def _endpoint_chain(self, endpoint: Endpoint) -> None:
        chain, says, proto = self._endpoint(endpoint), self._says(""), self.service.protocol
        recent = f"{self._recent('--set', endpoint)} " if self.service.affinity_seconds else ""
        self.nat.add(chain, f"-s {self._address(endpoint.address)} {says}-j KUBE-MARK-MASQ")
        self.nat.add(chain, f"-p {proto} {says}{recent}-m {proto} -j DNAT --to-destination {destination(endpoint)}")


def _probability(left: int) -> str:
    """One in `left`, as the kernel has it from kube-proxy's ten digits and iptables-save prints it."""
    return f"{round(float(f'{1 / left:.10f}') * _WHOLE) / _WHOLE:.11f}"
