"""kube-proxy's IPVS mode (pkg/proxy/ipvs/proxier.go): virtual servers, the ipsets that know them, and the few rules that ask those.

A Service costs elements and virtual servers, no rules. What the rules refer to has to be there first: load the ipsets, bind the addresses
to the dummy interface kube-ipvs0, restore the rules, then the virtual servers. kube-proxy also sets net.ipv4.vs.conntrack=1, without
which nothing is masqueraded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from probes.live.kube_proxy.iptables import Table, comment, forwarding, masquerading
from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort
from probes.live.kube_proxy.policies import Targets, authority, destination, from_node, targets

DUMMY_INTERFACE = "kube-ipvs0"
SCHEDULER = "rr"
_NAME_LENGTH = 31  # IPSET_MAXNAMELEN without its end
_IN_SERVICES, _IN_NODE_PORT, _IN_BALANCER = "KUBE-SERVICES", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER"
_FIREWALL, _RANGES = "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL"
_BY_PROTOCOL = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP-HASH"}
# (ipset, type, comment of its rule), in kube-proxy's order (ipsetInfo).
_SETS = (
    ("KUBE-LOOP-BACK", "hash:ip,port,ip", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    ("KUBE-CLUSTER-IP", "hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose"),
    ("KUBE-EXTERNAL-IP", "hash:ip,port", "Kubernetes service external ip + port for masquerade and filter purpose"),
    ("KUBE-EXTERNAL-IP-LOCAL", "hash:ip,port", "Kubernetes service external ip + port with externalTrafficPolicy=local"),
    ("KUBE-LOAD-BALANCER", "hash:ip,port", "Kubernetes service lb portal"),
    ("KUBE-LOAD-BALANCER-FW", "hash:ip,port", "Kubernetes service load balancer ip + port for load balancer with sourceRange"),
    ("KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port", "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"),
    (
        "KUBE-LOAD-BALANCER-SOURCE-IP",
        "hash:ip,port,ip",
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    ),
    (
        "KUBE-LOAD-BALANCER-SOURCE-CIDR",
        "hash:ip,port,net",
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    ),
    ("KUBE-NODE-PORT-TCP", "bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose"),
    ("KUBE-NODE-PORT-LOCAL-TCP", "bitmap:port", "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    ("KUBE-NODE-PORT-UDP", "bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose"),
    ("KUBE-NODE-PORT-LOCAL-UDP", "bitmap:port", "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    ("KUBE-NODE-PORT-SCTP-HASH", "hash:ip,port", "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"),
    (
        "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
        "hash:ip,port",
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    ),
    ("KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port", "Kubernetes health check node port"),
    ("KUBE-IPVS-IPS", "hash:ip", ""),
)
_COMMENTS = {name: says for name, _, says in _SETS}
# Rules that are there when their set has elements: (ipset, table, chain, protocol, direction, target); LOCAL before the rest.
_MATCHES = (
    ("KUBE-LOOP-BACK", "nat", "KUBE-POSTROUTING", "", "dst,dst,src", "MASQUERADE"),
    ("KUBE-LOAD-BALANCER", "nat", _IN_SERVICES, "", "dst,dst", _IN_BALANCER),
    ("KUBE-LOAD-BALANCER-LOCAL", "nat", _IN_BALANCER, "", "dst,dst", "RETURN"),
    ("KUBE-NODE-PORT-LOCAL-TCP", "nat", _IN_NODE_PORT, "tcp", "dst", "RETURN"),
    ("KUBE-NODE-PORT-TCP", "nat", _IN_NODE_PORT, "tcp", "dst", "KUBE-MARK-MASQ"),
    ("KUBE-NODE-PORT-LOCAL-UDP", "nat", _IN_NODE_PORT, "udp", "dst", "RETURN"),
    ("KUBE-NODE-PORT-UDP", "nat", _IN_NODE_PORT, "udp", "dst", "KUBE-MARK-MASQ"),
    ("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "nat", _IN_NODE_PORT, "sctp", "dst,dst", "RETURN"),
    ("KUBE-NODE-PORT-SCTP-HASH", "nat", _IN_NODE_PORT, "sctp", "dst,dst", "KUBE-MARK-MASQ"),
    ("KUBE-LOAD-BALANCER-FW", "filter", _FIREWALL, "", "dst,dst", _RANGES),
    ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "filter", _RANGES, "", "dst,dst,src", "RETURN"),
    ("KUBE-LOAD-BALANCER-SOURCE-IP", "filter", _RANGES, "", "dst,dst,src", "RETURN"),
)
# The jumps from built-in chains: (table, chain, comment, to), in the order that they are met (iptablesJumpChain, each prepended).
_JUMPS = (
    ("nat", "PREROUTING", "kubernetes service portals", _IN_SERVICES),
    ("nat", "OUTPUT", "kubernetes service portals", _IN_SERVICES),
    ("nat", "POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING"),
    ("filter", "INPUT", "kubernetes ipvs access filter", "KUBE-IPVS-FILTER"),
    ("filter", "INPUT", "kube-proxy firewall rules", _FIREWALL),
    ("filter", "INPUT", "kubernetes health check rules", _IN_NODE_PORT),
    ("filter", "FORWARD", "kube-proxy firewall rules", _FIREWALL),
    ("filter", "FORWARD", "kubernetes forwarding rules", "KUBE-FORWARD"),
    ("filter", "OUTPUT", "kubernetes ipvs access filter", "KUBE-IPVS-OUT-FILTER"),
)
_CHAINS = {
    "nat": (_IN_SERVICES, "KUBE-POSTROUTING", _IN_NODE_PORT, _IN_BALANCER, "KUBE-MARK-MASQ"),
    "filter": ("KUBE-FORWARD", _IN_NODE_PORT, _FIREWALL, _RANGES, "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER"),
}
# What may come in for an address of kube-ipvs0: (ipset, direction).
_LET_IN = (
    ("KUBE-LOAD-BALANCER", "dst,dst"), ("KUBE-CLUSTER-IP", "dst,dst"), ("KUBE-EXTERNAL-IP", "dst,dst"),
    ("KUBE-EXTERNAL-IP-LOCAL", "dst,dst"), ("KUBE-HEALTH-CHECK-NODE-PORT", "dst"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ipvs:
    """A node's IPVS state: texts for `ipset restore`, `iptables-restore` and `ipvsadm -R`, and the addresses that kube-ipvs0 gets."""

    ipsets: str
    iptables: str
    servers: str
    addresses: tuple[str, ...]


def ipvs(node: NodeView, services: Sequence[ServicePort]) -> Ipvs:
    """The state for `services`; the sets of an IPv6 view have names of their own, so that both families can be loaded."""
    state = _State(node)
    for service in services:
        _write(state, service, targets(service))
    return Ipvs(_ipsets(state), _rules(state), "\n".join([*state.servers, ""]), tuple(state.elements["KUBE-IPVS-IPS"]))


@dataclass(slots=True)
class _State:
    """Elements by set, commands for virtual servers, and balancers' fronts that the node itself may not use."""

    node: NodeView
    elements: dict[str, dict[str, None]] = field(default_factory=lambda: {name: {} for name, *_ in _SETS})
    servers: list[str] = field(default_factory=list)
    kept_out: list[tuple[str, str, int]] = field(default_factory=list)  # address, protocol, port

    def element(self, name: str, *parts: str | int) -> None:
        """Add to a set; once is enough."""
        self.elements[name][",".join(map(str, parts))] = None

    def server(self, service: ServicePort, address: str, port: int, real: Sequence[Endpoint], *, bound: bool) -> None:
        """A virtual server with its real servers, its address on kube-ipvs0 if `bound`."""
        kind = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[service.protocol]
        persistent = f" -p {service.affinity_seconds}" if service.affinity_seconds else ""
        front = authority(address, port)
        self.servers.append(f"-A {kind} {front} -s {SCHEDULER}{persistent}")
        self.servers += [f"-a {kind} {front} -r {destination(each)} -m -w 1" for each in real]
        if bound:
            self.element("KUBE-IPVS-IPS", address)


def _write(state: _State, service: ServicePort, found: Targets) -> None:
    """One Service port. Where policy Local finds no local endpoint, IPVS takes all there are (syncEndpoint)."""
    proto = service.protocol
    inside = (found.local if service.internal_local else ()) or found.cluster
    outside = (found.local if service.external_local else ()) or found.cluster
    for endpoint in service.endpoints:
        if endpoint.local:
            state.element("KUBE-LOOP-BACK", endpoint.address, f"{proto}:{endpoint.port}", endpoint.address)
    state.element("KUBE-CLUSTER-IP", service.cluster_ip, f"{proto}:{service.port}")
    state.server(service, service.cluster_ip, service.port, inside, bound=True)
    for address in service.external_ips:
        state.element(f"KUBE-EXTERNAL-IP{'-LOCAL' if service.external_local else ''}", address, f"{proto}:{service.port}")
        state.server(service, address, service.port, outside, bound=address not in state.node.addresses)
    for address in service.load_balancer_ips:
        _balancer(state, service, address)
        state.server(service, address, service.port, outside, bound=address not in state.node.addresses)
    if service.node_port:
        kinds = ("", "LOCAL-") if service.external_local else ("",)
        for kind in kinds:
            for element in _node_port_elements(state.node, service):
                state.element(f"KUBE-NODE-PORT-{kind}{_BY_PROTOCOL[proto]}", *element)
        for address in state.node.addresses:
            state.server(service, address, service.node_port, outside, bound=False)
    if service.health_check_node_port:
        state.element("KUBE-HEALTH-CHECK-NODE-PORT", service.health_check_node_port)


def _node_port_elements(node: NodeView, service: ServicePort) -> list[tuple[str | int, ...]]:
    """A bitmap knows no protocol, so SCTP's set is a hash of addresses and ports."""
    port = service.node_port or 0
    return [(address, f"sctp:{port}") for address in node.addresses] if service.protocol == "sctp" else [(port,)]


def _balancer(state: _State, service: ServicePort, address: str) -> None:
    """A balancer's address, and who may use it."""
    front = (address, f"{service.protocol}:{service.port}")
    state.element("KUBE-LOAD-BALANCER", *front)
    if service.external_local:
        state.element("KUBE-LOAD-BALANCER-LOCAL", *front)
    if not service.source_ranges:
        return
    state.element("KUBE-LOAD-BALANCER-FW", *front)
    for source in service.source_ranges:
        state.element("KUBE-LOAD-BALANCER-SOURCE-CIDR", *front, source)
    if from_node(state.node, service):
        state.element("KUBE-LOAD-BALANCER-SOURCE-IP", *front, address)
    else:
        state.kept_out.append((address, service.protocol, service.port))


def _name(node: NodeView, name: str) -> str:
    return name.replace("KUBE-", "KUBE-6-", 1)[:_NAME_LENGTH] if node.ipv6 else name


def _ipsets(state: _State) -> str:
    lines = []
    for name, kind, _ in _SETS:
        known = _name(state.node, name)
        family = "inet6" if state.node.ipv6 else "inet"
        sizes = "range 0-65535" if kind == "bitmap:port" else f"family {family} hashsize 1024 maxelem 65536"
        lines += [f"create {known} {kind} {sizes}", *(f"add {known} {element}" for element in state.elements[name])]
    return "\n".join([*lines, ""])


def _rules(state: _State) -> str:
    """The rules in kube-proxy's order (writeIptablesRules)."""
    node, mark = state.node, state.node.mark
    tables = {name: Table(name, {chain: [] for chain in chains}) for name, chains in _CHAINS.items()}
    nat, filters = tables["nat"], tables["filter"]
    for table, chain, says, to in _JUMPS:
        tables[table].add(chain, f"{comment(says)} -j {to}")
    nat.add(_IN_SERVICES, f"-s {'::1/128' if node.ipv6 else '127.0.0.0/8'} -j RETURN")
    for name, table, chain, proto, direction, to in _MATCHES:
        if state.elements[name]:
            tables[table].add(chain, f"{f'-p {proto} ' if proto else ''}{comment(_COMMENTS[name])} {_match(node, name, direction)} -j {to}")
    nat.add(_IN_SERVICES, *_marking(state))
    nat.add(_IN_SERVICES, f"-m addrtype --dst-type LOCAL -j {_IN_NODE_PORT}")
    nat.add(_IN_SERVICES, *_accepted(state))
    nat.add(_IN_BALANCER, "-j KUBE-MARK-MASQ")
    nat.add("KUBE-POSTROUTING", *masquerading(mark))
    nat.add("KUBE-MARK-MASQ", f"-j MARK --set-xmark {mark:#x}/{mark:#x}")
    filters.add(_RANGES, "-j DROP")
    for address, proto, port in state.kept_out:
        own = f"-s {address}/{128 if node.ipv6 else 32} -m ipvs --vaddr {address} --vproto {proto} --vport {port}"
        filters.add("KUBE-IPVS-OUT-FILTER", f"{own} -j DROP")
    filters.add("KUBE-FORWARD", *forwarding(mark))
    health = "KUBE-HEALTH-CHECK-NODE-PORT"
    filters.add(_IN_NODE_PORT, f"{comment(_COMMENTS[health])} {_match(node, health, 'dst')} -j ACCEPT")
    filters.add("KUBE-IPVS-FILTER", *(f"{_match(node, name, direction)} -j RETURN" for name, direction in _LET_IN))
    refusal = f"REJECT --reject-with {'icmp6' if node.ipv6 else 'icmp'}-port-unreachable"
    filters.add("KUBE-IPVS-FILTER", f"-m conntrack --ctstate NEW {_match(node, 'KUBE-IPVS-IPS', 'dst')} -j {refusal}")
    return "".join(table.text() for table in tables.values())


def _match(node: NodeView, name: str, direction: str) -> str:
    return f"-m set --match-set {_name(node, name)} {direction}"


def _marking(state: _State) -> Iterator[str]:
    """What is masqueraded: traffic to a ClusterIP from elsewhere, to an external address, and what else may go to one."""
    node, cluster = state.node, "KUBE-CLUSTER-IP"
    if state.elements[cluster]:
        yield f"! -s {node.cluster_cidr} {comment(_COMMENTS[cluster])} {_match(node, cluster, 'dst,dst')} -j KUBE-MARK-MASQ"
    for name in ("KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"):
        if state.elements[name]:
            match = f"{comment(_COMMENTS[name])} {_match(node, name, 'dst,dst')}"
            if name == "KUBE-EXTERNAL-IP":
                yield f"{match} -j KUBE-MARK-MASQ"
            yield f"{match} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
            yield f"{match} -m addrtype --dst-type LOCAL -j ACCEPT"


def _accepted(state: _State) -> Iterator[str]:
    """The end of KUBE-SERVICES: other rules shall not keep traffic from virtual servers."""
    for name in ("KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER"):
        if state.elements[name]:
            yield f"{_match(state.node, name, 'dst,dst')} -j ACCEPT"
