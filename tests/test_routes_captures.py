"""On recorded clusters, the rule that we name leads to the Service that the proxy really used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tracer.cluster import Timeline, read_cluster

SECOND_NS = 1_000_000_000


def cluster(folder: Path) -> Timeline:
    return read_cluster([*sorted(folder.glob("cluster*.json*")), *sorted(folder.glob("watch.jsonl"))])[0]


def proxied(truth: Path) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """(request, the leg to the proxy, the proxy's leg to a pod) of every request that a proxy handed on."""
    found = []
    for line in truth.read_text().splitlines():
        request = json.loads(line)
        legs = {leg["leg"]: leg for leg in request["legs"]}
        upstream = [leg for leg in request["legs"] if leg["what"] == "upstream" and (leg.get("to") or {}).get("pod")]
        found += [(request, legs[leg["parent"]], leg) for leg in upstream]
    return found


def test_the_rule_leads_to_the_service_that_was_used(capture: Path) -> None:
    timeline = cluster(capture)
    requests = proxied(capture / "truth.jsonl")
    assert len(requests) >= 12
    for request, first, second in requests:
        found = timeline.route(request["host"], request["path"], round(first["t_start"] * SECOND_NS))
        assert found is not None, request
        used_ns = round(second["t_start"] * SECOND_NS)
        endpoints = timeline.endpoints(found.service_namespace or "", found.service_name or "", "http", "tcp", used_ns)
        assert second["to"]["pod"] in {f"{each.namespace}/{each.pod}" for each in endpoints}, request
        # service-upstream: to the ClusterIP, which the truth then names; else straight to the pod.
        assert second["service"] == (f"{found.service_namespace}/{found.service_name}" if found.service_upstream else None), request
        assert (found.service_port, found.upstream_path, found.redirect) == (80, request["path"].partition("?")[0], None)
        assert tuple(first["to"]["pod"].split("/")) in timeline.ingress_controllers(round(first["t_start"] * SECOND_NS))


def test_the_rules_of_a_sample(sample: Path) -> None:
    timeline = cluster(sample)
    pods = timeline.objects("Pod")
    now_ns = 1_795_500_000 * SECOND_NS
    wanted = {
        ("shop.example.test", "/"): ("shop", "/", "web", False),
        ("shop.example.test", "/api/users?x=1"): ("shop", "/api", "api", False),
        ("shop.example.test", "/apis"): ("shop", "/", "web", False),
        ("api.example.test:8080", "/web/x"): ("api", "/web", "web", True),
        ("API.example.test", "/users"): ("api", "/", "api", True),
    }
    for (host, target), rule in wanted.items():
        found = timeline.route(host, target, now_ns)
        assert found is not None
        assert (found.name, found.path, found.service_name, found.service_upstream) == rule
        assert (found.kind, found.namespace, found.service_port, found.ingress_class) == ("Ingress", "demo", 80, "nginx")
    assert timeline.route("unknown.example.test", "/", now_ns) is None
    assert timeline.external_names(now_ns) == {"db.ext.example": ("demo", "external-db")}
    assert timeline.service_of_dns_name("web.demo.svc.cluster.local", now_ns) == ("demo", "web")
    proxies = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods if pod["metadata"]["namespace"] == "ingress-nginx"}
    assert set(timeline.ingress_controllers(now_ns)) == proxies
