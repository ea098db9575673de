"""Made request records: a shop behind ingress-nginx on three nodes, the same for the same seed.

Trees client → ingress-nginx → api → dns, mysql, redis, payments → outside, with what real ones have: attempts that are refused, reset or
time out and are tried again, answers of 500 and 504, parents that evidence cannot tell, hops smaller than their clocks' uncertainty.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
FIRST_NS = 1_795_411_989_000_000_000
US, MS = 1_000, 1_000_000
CLOCKS_NS = 60 * US  # how well two nodes' clocks are aligned


@dataclass(frozen=True)
class Pod:
    """A pod, where it runs and the port it serves."""

    namespace: str
    name: str
    node: str
    address: str
    port: int
    container: str


@dataclass(frozen=True)
class Service:
    """A Service and its pods; `address` is its ClusterIP, `typical_ns` what one of its pods takes by itself."""

    namespace: str
    name: str
    address: str
    port: int
    target_port: str | int
    pods: tuple[Pod, ...]
    typical_ns: int
    node_port: int | None = None


def _pods(namespace: str, app: str, port: int, *places: str) -> tuple[Pod, ...]:
    hashes = ("9tv6s", "vwrj6", "2sbtr", "c5whv", "k4lkk")
    return tuple(
        Pod(namespace, f"{app}-84bf6fc687-{hashes[i]}", node, f"10.244.{'abc'.index(node[-1])}.{len(app) + i}", port, app)
        for i, node in enumerate(places)
    )


INGRESS = Service(
    "ingress-nginx", "ingress-nginx-controller", "10.96.44.2", 80, "http",
    _pods("ingress-nginx", "ingress-nginx-controller", 80, "node-a", "node-b"), 300 * US, 30080,
)  # fmt: skip
API = Service("shop", "api", "10.96.7.8", 80, "http", _pods("shop", "api", 5000, "node-a", "node-b", "node-c"), 4 * MS)
PAYMENTS = Service("shop", "payments", "10.96.9.1", 8080, 8080, _pods("shop", "payments", 8080, "node-c"), 9 * MS)
MYSQL = Service("shop", "mysql", "10.96.3.3", 3306, "mysql", (Pod("shop", "mysql-0", "node-b", "10.244.1.3", 3306, "mysql"),), 2 * MS)
REDIS = Service("shop", "redis", "10.96.3.9", 6379, 6379, (Pod("shop", "redis-0", "node-a", "10.244.0.9", 6379, "redis"),), 120 * US)
DNS = Service("kube-system", "kube-dns", "10.96.0.10", 53, "dns", _pods("kube-system", "coredns", 53, "node-a", "node-c"), 90 * US)
OPERATIONS = ("GET /items", "GET /items/17", "POST /orders", "GET /health", "GET /search?q=…")
NODE_ADDRESSES = {"node-a": "172.30.0.11", "node-b": "172.30.0.12", "node-c": "172.30.0.13"}
BACK = {"in": "out", "out": "in"}
FAILED = ("refused", "timeout", "reset")


class Maker:
    """Makes trees of records; every choice comes from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.records: list[Record] = []
        self._connections = itertools.count(1)
        self._frames = {node: itertools.count(1) for node in NODE_ADDRESSES}

    def around(self, typical_ns: int, spread: float = 0.5) -> int:
        """A time near `typical_ns`, now and then much longer."""
        slow = 80 if self.random.random() < 0.004 else 1
        return max(1, int(typical_ns * slow * self.random.lognormvariate(0, spread)))

    def tree(self, start_ns: int) -> None:
        """One request from outside and everything it causes."""
        client = f"172.30.0.{self.random.randint(100, 107)}:{self.random.randint(33000, 60999)}"
        first = len(self.records)
        operation = self.random.choices(OPERATIONS, (50, 25, 10, 10, 5))[0]
        root = self.request(None, client, INGRESS, start_ns, "http", operation, "200")
        root["host"] = "shop.example"
        root["ingress"] = {
            "kind": "Ingress", "namespace": "shop", "name": "shop", "host": "shop.example", "path": "/", "path_type": "Prefix",
            "service": "shop/api:80", "agrees": True,
        }  # fmt: skip
        proxy = self.pod_of(root)
        status, at_ns = "", start_ns + self.around(150 * US)
        for _attempt in range(2):
            status = self.random.choices(("200", "500", *FAILED), (972, 12, 8, 1, 7))[0]
            upstream = self.request(root, proxy, API, at_ns, "http", operation, status, direct=True)
            if status not in FAILED:
                self.work(upstream, operation)
                break
            self.finish(upstream, [])
            at_ns = upstream["end_ns"] + 50 * US
        root["status"] = {"timeout": "504", "refused": "502", "reset": "502"}.get(status, status)
        self.finish(root, [r for r in self.records[first:] if r["parent"] == root["id"]])

    def work(self, parent: Record, operation: str) -> None:
        """What an api pod does for one request: resolve, query, cache, pay."""
        pod, at_ns, children = self.pod_of(parent), parent["start_ns"] + self.around(400 * US), []
        name = "mysql.shop.svc.cluster.local"
        steps = [(DNS, "dns", f"A {name}", "NOERROR"), (DNS, "dns", f"A {name}.shop.svc.cluster.local", "NXDOMAIN")][
            : self.random.randint(0, 2)
        ]
        steps += [(REDIS, "redis", "GET session", "ok")] * (self.random.random() < 0.4)
        steps += [(MYSQL, "mysql", "SELECT id, name, price FROM items WHERE …", "ok")] * self.random.randint(0, 2)
        if operation.startswith("POST"):
            steps += [(MYSQL, "mysql", "INSERT INTO orders VALUES (…)", "ok"), (PAYMENTS, "http", "POST /charge", "201")]
        for service, protocol, what, status in steps:
            outcome = self.random.choice(FAILED[::2]) if self.random.random() < 0.004 and protocol == "mysql" else status
            child = self.request(parent, pod, service, at_ns, protocol, what, outcome)
            self.finish(child, [self.outside(child)] if service is PAYMENTS else [])
            self.doubt(child)
            children.append(child)
            at_ns = child["end_ns"] + self.around(100 * US)
        self.finish(parent, children)

    def outside(self, parent: Record) -> Record:
        """The payment provider, whose bytes are encrypted: the connection itself."""
        pod = self.pod_of(parent)
        child = self.request(parent, pod, None, parent["start_ns"] + self.around(MS), "tls", None, "closed")
        child |= {"unread": "encrypted", "host": "api.bank.example"}
        self.finish(child, [])
        return child

    def doubt(self, child: Record) -> None:
        """Now and then evidence leaves two parents possible."""
        if self.random.random() < 0.05 and len(self.records) > 30:
            other = self.random.choice([r["id"] for r in self.records[-30:] if r["protocol"] == "http"] or ["r1"])
            share = round(self.random.uniform(0.5, 0.85), 2)
            child["parent_candidates"] = [{"id": child["parent"], "confidence": share}, {"id": other, "confidence": round(0.97 - share, 2)}]
            child |= {"parent": None, "parent_confidence": share, "parent_evidence": ["nesting"], "trace": f"t{child['id'][1:]}"}

    def pod_of(self, record: Record) -> Pod:
        """The pod that served it."""
        pods = (pod for service in (INGRESS, API, PAYMENTS, MYSQL, REDIS, DNS) for pod in service.pods)
        return next(pod for pod in pods if pod.name == record["server"]["name"])

    def request(
        self, parent: Record | None, client: str | Pod, service: Service | None, start_ns: int, protocol: str, operation: str | None,
        status: str, *, direct: bool = False,
    ) -> Record:  # fmt: skip
        """A record without its times; `client` is an address outside or a pod, `service` None for outside the cluster."""
        pod = self.random.choice(service.pods) if service else None
        port, number = self.random.randint(33000, 60999), len(self.records) + 1
        entry = self.random.choice(list(NODE_ADDRESSES)) if isinstance(client, str) else client.node
        source = client if isinstance(client, str) else f"{client.address}:{port}"
        target = f"{pod.address}:{pod.port}" if pod else "203.0.113.9:443"
        asked, via = target, "direct"
        if service and not direct:
            outside = isinstance(client, str)
            asked, via = (
                (f"{NODE_ADDRESSES[entry]}:{service.node_port}", "NodePort")
                if outside
                else (f"{service.address}:{service.port}", "ClusterIP")
            )
        masked = source if not isinstance(client, str) else f"10.244.{'abc'.index(entry[-1])}.0:{self.random.randint(1024, 65000)}"
        original, translated = f"{source} > {asked}", f"{masked} > {target}"
        proto = "udp" if protocol == "dns" else "tcp"
        kinds = ["dnat"] * (asked != target) + ["snat"] * (masked != source)
        reached = status != "refused" or direct
        record: Record = {
            "id": f"r{number}", "connection": f"c{next(self._connections)}", "parent": parent["id"] if parent else None,
            "trace": parent["trace"] if parent else f"t{number}", "protocol": protocol, "operation": operation, "status": status,
            "start_ns": start_ns, "end_ns": start_ns, "host": None, "true_client": None, "ingress": None,
            "client": _end(source, client if isinstance(client, Pod) else None), "server": _end(target, pod) if reached else None,
            "service": {
                "namespace": service.namespace, "name": service.name, "port": str(service.port), "via": via, "port_name": None, "type": via,
            } if service and not direct else {"namespace": None, "name": None, "port": None, "via": "direct"},
            "original": _tuple(proto, original), "translated": _tuple(proto, translated) if reached else None,
            "ports": {
                "node_port": service.node_port if service and via == "NodePort" else None,
                "port": service.port if service and not direct else None,
                "target_port": service.target_port if service and not direct else None,
                "container_port": pod.port if pod else None, "container": pod.container if pod else None,
            },
            "policies": [],
            "translations": [
                {
                    "node": entry, "before": original, "after": translated, "kinds": kinds, "evidence": ["isn", "conntrack"],
                    "rules": {"mode": "iptables", "service": f"{service.namespace}/{service.name}" if service else None,
                              "chains": ["KUBE-SERVICES", "KUBE-SVC-7QJ2"], "walked": 31},
                }
            ] if kinds and reached else [],
            "packets": {"original": 5, "reply": 4 if reached else 0}, "bytes": {"request": self.random.randint(80, 900), "response": 1200},
            "handshake_ns": self.around(90 * US) if proto == "tcp" else None, "retransmissions": 0, "losses": [],
            "evidence": ["isn", "tsval", "conntrack"], "parent_evidence": ["x-request-id", "nesting"] if parent else [],
            "parent_confidence": round(self.random.uniform(0.91, 1), 3) if parent else None, "parent_candidates": [],
            "confidence": 0.995, "candidates": [], "unread": None, "last_seen_at": None if reached else f"{entry}/eth0",
            "refusal": None, "verdict": None, "problems": [], "_entry": entry, "_own_ns": service.typical_ns if service else 30 * MS,
        }  # fmt: skip
        self.records.append(record)
        return record

    def finish(self, record: Record, children: list[Record]) -> None:
        """Times, once the children have theirs."""
        entry, own_ns = record.pop("_entry"), self.around(record.pop("_own_ns"))
        server = record["server"]
        node = server["node"] if server and server["node"] else entry
        across = node != entry
        there, back = (self.around(140 * US if across else 30 * US), self.around(130 * US if across else 25 * US))
        start, failed = record["start_ns"], record["status"] in FAILED
        if failed:
            record["end_ns"] = start + {"refused": 200 * US, "reset": 3 * MS, "timeout": 3_000 * MS}[record["status"]]
            again = 2 if record["status"] == "timeout" else 0
            record |= {"retransmissions": again, "problems": [] if server else ["no answer came back: which pod was chosen is not known"]}
            record["losses"] = [
                {"path": "request", "seq": 17_160 + i, "time_ns": start + i * 1_000 * MS, "sent_again_after_ns": 1_000 * MS,
                 "last_seen_at": f"{entry}/eth0", "first_missed_at": None} for i in range(again)
            ]  # fmt: skip
            record["latency"] = {"total_ns": record["end_ns"] - start, "network_ns": None, "server_ns": None, "self_ns": None,
                                 "uncertainty_ns": None, "parts": []}  # fmt: skip
            parts = [
                {"kind": "retransmission", "node": entry, "start_ns": each["time_ns"], "end_ns": each["time_ns"] + 1_000 * MS,
                 "uncertainty_ns": 1000, "separable": True} for each in record["losses"]
            ]  # fmt: skip
            record["latency"]["parts"] = parts
            record["hops"] = self.hops(record, entry, node, start, None, there)
            return
        opened = start + there
        closed = max([opened, *(child["end_ns"] + 20 * US for child in children)]) + own_ns
        covered = sum(child["end_ns"] - child["start_ns"] for child in children)
        record["end_ns"] = closed + back
        uncertainty = CLOCKS_NS if across else 1000
        separable = not across or min(there, back) > uncertainty
        shake = record["handshake_ns"] or 0
        parts = [("connect", entry, start - shake - 40 * US, start - 40 * US, 1000, True)] * (shake > 0 and self.random.random() < 0.5)
        parts += [
            ("request-network", entry, start, opened, uncertainty, separable), ("server", node, opened, closed, uncertainty, True),
            ("response-network", node, closed, record["end_ns"], uncertainty, separable),
        ]  # fmt: skip
        if record["translations"]:
            parts.insert(-2, ("nat", entry, start, start + min(there, self.around(12 * US if shake else 7 * US)), 1000, True))
        names = ("kind", "node", "start_ns", "end_ns", "uncertainty_ns", "separable")
        told = [dict(zip(names, part, strict=True)) for part in parts]
        for part in told:
            if part["kind"] == "nat":
                part["first_packet"] = len(told) > 4
        record["latency"] = {
            "total_ns": record["end_ns"] - start, "network_ns": there + back, "server_ns": closed - opened,
            "self_ns": max(0, closed - opened - covered), "uncertainty_ns": 2000, "parts": told,
        }  # fmt: skip
        record["hops"] = self.hops(record, entry, node, start, closed, there)

    def hops(self, record: Record, entry: str, node: str, start_ns: int, answer_ns: int | None, there_ns: int) -> list[Record]:
        """The request's first byte, and the answer's, at every observation point."""
        before, after = record["original"], record["translated"] or record["original"]
        tunnel = {"kind": "vxlan", "id": 1, "src": NODE_ADDRESSES[entry], "dst": NODE_ADDRESSES[node]}
        places = [(entry, "veth1a2b3c", "in", before, None), (entry, "cni0", "in", before, None)]
        if record["client"]["kind"] == "external":
            places = [(entry, "eth0", "in", before, None)]
        if record["translated"]:
            places += [(entry, "flannel.1", "out", after, None), (entry, "eth0", "out", after, tunnel),
                       (node, "eth0", "in", after, tunnel)] * (entry != node)  # fmt: skip
            places += [(node, "cni0", "out", after, None), (node, "veth4ab119", "out", after, None)]
        step, found = max(1, there_ns // max(1, len(places) - 1)), []
        for path in ("request", "reply")[: 2 if answer_ns else 1]:
            order = places if path == "request" else places[::-1]
            first_ns, last = (start_ns if path == "request" else answer_ns or 0), None
            for i, (where, interface, direction, ends, through) in enumerate(order):
                src, dst = (ends["src"], ends["dst"]) if path == "request" else (ends["dst"], ends["src"])
                far = last is not None and where != last
                asked = ends is before and before != after
                found.append({
                    "node": where, "interface": interface, "direction": direction if path == "request" else BACK[direction],
                    "path": path, "src": src, "dst": dst, "tunnel": through,
                    "port_kind": ("nodePort" if record["ports"]["node_port"] else "port") if asked else "containerPort",
                    "time_ns": first_ns + i * step, "offset_ns": i * step, "latency_ns": step if i else None,
                    "uncertainty_ns": (CLOCKS_NS if far else 1000) if i else None,
                    "separable": (not far or step > CLOCKS_NS) if i else None, "file": f"{where}.pcap", "frame": next(self._frames[where]),
                })  # fmt: skip
                last = where
        return found


def _end(address: str, pod: Pod | None) -> Record:
    if pod is None:
        return {"address": address, "kind": "external", "namespace": None, "name": None, "node": None, "container": None}
    return {
        "address": address, "kind": "pod", "namespace": pod.namespace, "name": pod.name, "node": pod.node, "container": pod.container,
    }  # fmt: skip


def _tuple(proto: str, text: str) -> Record:
    src, dst = text.split(" > ")
    return {"proto": proto, "src": src, "dst": dst}


def requests(count: int, seed: int = 7) -> list[Record]:
    """At least `count` request records (whole trees), parents before children."""
    maker, at_ns = Maker(seed), FIRST_NS
    while len(maker.records) < count:
        at_ns += maker.around(3 * MS, 1.0)
        maker.tree(at_ns)
    return maker.records


def summary(records: list[Record]) -> Record:
    """A summary as `analysis.summary.summarise` gives it, with something missing of every kind."""
    last_ns = max(record["end_ns"] for record in records)
    capture = {
        "bytes": 7_340_033, "non_ip_frames": 3, "first_ns": FIRST_NS, "last_ns": last_ns, "comments": [], "frames": 23_101,
        "truncated_frames": 0, "dropped_by_capture": 0,
    }  # fmt: skip
    node = {"captured": True, "kube_proxy_mode": "iptables", "services": 19, "rules": 189, "ledger_lines": 7181}
    return {
        "files": {"capture": ["node-a.pcap", "node-b.pcap", "node-c.pcap"]},
        "captures": {
            "node-a.pcap": {**capture, "node": "node-a"}, "node-b.pcap": {**capture, "node": "node-b", "dropped_by_capture": 101},
            "node-c.pcap": {**capture, "node": "node-c", "truncated_frames": 2311},
        },
        "first_ns": FIRST_NS, "last_ns": last_ns,
        "nodes": {
            "node-a": node, "node-b": node, "node-c": {**node, "ledger_lines": None},
            "node-d": dict.fromkeys(node) | {"captured": False},
        },
        "nodes_not_captured": ["node-d"], "captured_elsewhere": [], "cluster": {"Node": 4, "Pod": 15, "Service": 6, "EndpointSlice": 6},
        "connections": {"total": len(records), "by_status": {}, "by_protocol": {}, "translated": 0, "retransmissions": 0},
        "unmatched": {"the tuple after translation was not seen": 23},
        "problems": [
            {"file": "node-c.pcap", "offset": 7_340_009, "what": "the last packet is cut off",
             "remedy": "stop the capture before copying it", "severity": "warning"},
        ],
    }  # fmt: skip
