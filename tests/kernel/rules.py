"""kube-proxy's rules for `SERVICES` in two flavours, as text for iptables-restore and `nft -f`.

Shaped like pkg/proxy/iptables and pkg/proxy/nftables of Kubernetes 1.31, reduced to what changes packets: DNAT to a random endpoint, a mark
for what has to be masqueraded, REJECT without endpoints, DROP without local ones; then the CNI's masquerade of what leaves the cluster.
"""

from __future__ import annotations

from .lab import Lab
from .services import CLUSTER_CIDRS, NODES, SERVICES, Service, endpoints_on, pod_named

MARK = "0x4000"
FAMILIES = (0, 1)  # IPv4, IPv6: positions in every pair of addresses


def _local(service: Service, node: str) -> list[str]:
    return [pod.name for pod in endpoints_on(service, node)]


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _endpoints(service: Service, node: str, *, local: bool) -> list[str]:
    return _local(service, node) if local else list(service.endpoints)


def iptables_restore(node: str, family: int) -> str:
    """The `*nat` and `*filter` tables of `node`."""
    cidr = CLUSTER_CIDRS[family]
    chains: dict[str, list[str]] = {
        "KUBE-SERVICES": [], "KUBE-NODEPORTS": [], "KUBE-MARK-MASQ": [f"-j MARK --or-mark {MARK}"],
        "KUBE-POSTROUTING": [
            f"-m mark ! --mark {MARK}/{MARK} -j RETURN", f"-j MARK --xor-mark {MARK}", "-j MASQUERADE --random-fully",
        ],
    }  # fmt: skip
    rejected, dropped = [], []
    for service in (each for each in SERVICES if each.number):
        match, vip = f"-p {service.proto} -m {service.proto} --dport", service.vips[family]
        inside = _endpoints(service, node, local=service.internal_local)
        if inside:
            chains["KUBE-SERVICES"].append(f"-d {vip} {match} {service.port} -j SVC-{service.key}")
        else:
            target = "DROP" if service.endpoints else f"REJECT --reject-with {('icmp-port-unreachable', 'icmp6-port-unreachable')[family]}"
            rejected.append(f"-d {vip} {match} {service.port} -j {target}")
        if service.node_port:
            chains["KUBE-NODEPORTS"].append(f"{match} {service.node_port} -j EXT-{service.key}")
            policy = ["-j KUBE-MARK-MASQ", f"-j SVC-{service.key}"]
            if service.external_local:
                policy = [f"-s {cidr} -j SVC-{service.key}", "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"]
                policy += [f"-m addrtype --src-type LOCAL -j SVC-{service.key}", f"-j SVL-{service.key}"]
                chains[f"SVL-{service.key}"] = _choice(service, _local(service, node))
                if not _local(service, node):
                    dropped.append(f"-m addrtype --dst-type LOCAL {match} {service.node_port} -j DROP")
            chains[f"EXT-{service.key}"] = policy
        chains[f"SVC-{service.key}"] = [f"! -s {cidr} -d {vip} {match} {service.port} -j KUBE-MARK-MASQ", *_choice(service, inside)]
        for name in service.endpoints:
            address = pod_named(name).addresses[family]
            dnat = f"-p {service.proto} -m {service.proto} -j DNAT --to-destination {_end(address, service.target_port)}"
            chains[f"SEP-{service.key}-{name}"] = [f"-s {address} -j KUBE-MARK-MASQ", dnat]
    chains["KUBE-SERVICES"].append("-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    hooks = ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", "-A POSTROUTING -j KUBE-POSTROUTING"]
    hooks.append(f"-A POSTROUTING -s {cidr} ! -d {cidr} -j MASQUERADE --random-fully")
    nat = [f":{name} - [0:0]" for name in chains] + hooks + [f"-A {name} {rule}" for name, rules in chains.items() for rule in rules]
    new = "-m conntrack --ctstate NEW"
    checks = [f"-A {hook} {new} {rule}" for rule in rejected for hook in ("FORWARD", "OUTPUT")] + [
        f"-A INPUT {new} {rule}" for rule in dropped
    ]
    return "\n".join(["*nat", *nat, "COMMIT", "*filter", *checks, "COMMIT", ""])


def _choice(service: Service, pods: list[str]) -> list[str]:
    """Jumps to one of the endpoints, each as likely as the others."""
    rules = []
    for index, name in enumerate(pods):
        left = len(pods) - index
        random = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        rules.append(f"{random}-j SEP-{service.key}-{name}")
    return rules


def nft_ruleset(node: str, family: int) -> str:
    """The kube-proxy table of `node`."""
    ip, cidr, kind = ("ip", "ip6")[family], CLUSTER_CIDRS[family], ("ipv4_addr", "ipv6_addr")[family]
    chains: dict[str, list[str]] = {"mark-for-masquerade": [f"meta mark set meta mark or {MARK}"], "reject-chain": ["reject"]}
    addresses, node_ports, unserved, unserved_ports = [], [], [], []
    for service in (each for each in SERVICES if each.number):
        vip, proto = service.vips[family], service.proto
        inside = _endpoints(service, node, local=service.internal_local)
        if inside:
            addresses.append(f"{vip} . {proto} . {service.port} : goto service-{service.key}")
        else:
            unserved.append(f"{vip} . {proto} . {service.port} : {'drop' if service.endpoints else 'goto reject-chain'}")
        if service.node_port:
            node_ports.append(f"{proto} . {service.node_port} : goto external-{service.key}")
            policy = ["jump mark-for-masquerade", f"goto service-{service.key}"]
            if service.external_local:
                policy = [f"{ip} saddr {cidr} goto service-{service.key}", "fib saddr type local jump mark-for-masquerade"]
                policy += [f"fib saddr type local goto service-{service.key}", *_verdicts(service, _local(service, node))]
                if not _local(service, node):
                    unserved_ports.append(f"{proto} . {service.node_port} : drop")
            chains[f"external-{service.key}"] = policy
        for name in service.endpoints:
            address = pod_named(name).addresses[family]
            dnat = f"meta l4proto {proto} dnat to {_end(address, service.target_port)}"
            chains[f"endpoint-{service.key}-{name}"] = [f"{ip} saddr {address} jump mark-for-masquerade", dnat]
        mark = f"{ip} daddr {vip} {ip} saddr != {cidr} jump mark-for-masquerade"
        chains[f"service-{service.key}"] = [mark, *_verdicts(service, inside)]
    chains["services"] = [
        f"{ip} daddr . meta l4proto . th dport vmap @service-ips",
        "fib daddr type local meta l4proto . th dport vmap @nodeports",
    ]
    for hook, priority in (("prerouting", "dstnat"), ("output", "-100")):
        chains[f"nat-{hook}"] = [f"type nat hook {hook} priority {priority};", "jump services"]
    chains["nat-postrouting"] = [
        "type nat hook postrouting priority srcnat;",
        f"{ip} saddr {cidr} {ip} daddr != {cidr} meta mark and {MARK} == 0 masquerade fully-random",
        f"meta mark and {MARK} != 0 masquerade fully-random",
    ]
    for hook in ("forward", "output"):
        check = f"ct state new {ip} daddr . meta l4proto . th dport vmap @unserved"
        chains[f"filter-{hook}"] = [f"type filter hook {hook} priority -110;", check]
    check = "ct state new fib daddr type local meta l4proto . th dport vmap @unserved-ports"
    chains["filter-input"] = ["type filter hook input priority -110;", check]
    key, ports = f"{kind} . inet_proto . inet_service", "inet_proto . inet_service"
    maps = {
        "service-ips": (key, addresses),
        "nodeports": (ports, node_ports),
        "unserved": (key, unserved),
        "unserved-ports": (ports, unserved_ports),
    }
    lines = [f"table {ip} kube-proxy {{"]
    for name, (type_, elements) in maps.items():
        listed = f" elements = {{ {', '.join(elements)} }}" if elements else ""
        lines.append(f"map {name} {{ type {type_} : verdict;{listed} }}")
    lines += [f"chain {name} {{\n  " + "\n  ".join(rules) + "\n}" for name, rules in chains.items()]
    return "\n".join([*lines, "}", ""])


def _verdicts(service: Service, pods: list[str]) -> list[str]:
    if not pods:
        return []
    targets = ", ".join(f"{index} : goto endpoint-{service.key}-{name}" for index, name in enumerate(pods))
    return [f"numgen random mod {len(pods)} vmap {{ {targets} }}"]


def install(lab: Lab, flavour: str) -> None:
    """Give every node its rules; `flavour` is nftables, or the suffix of an iptables: iptables-nft, iptables-legacy."""
    for node in NODES:
        for family in FAMILIES:
            if flavour == "nftables":
                lab.run(node, "nft", "-f", "-", stdin=nft_ruleset(node, family))
            else:
                tool = flavour.replace("iptables", ("iptables", "ip6tables")[family]) + "-restore"
                lab.run(node, tool, stdin=iptables_restore(node, family))
