"""DNS names to Services, and which pods are L7 proxies."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_objects import NOW_NS, Object, created, gateway, ingress, service

from tracer.cluster import Timeline
from tracer.cluster.lives import How, Sighting


def endpoints(of: str, *pods: str, hostname: str | None = None, namespace: str = "shop") -> Object:
    found = [
        {"addresses": ["10.244.0.9"], "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace}, "hostname": hostname}
        for pod in pods
    ]
    labels = {"kubernetes.io/service-name": of}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{of}-1", "namespace": namespace, "labels": labels, "creationTimestamp": created(0)},
        "endpoints": found,
        "ports": [{"name": "http", "port": 8080}],
    }


def external(name: str, target: str, namespace: str = "shop") -> Object:
    return {**service(name, namespace=namespace), "spec": {"type": "ExternalName", "externalName": target}}


# https://github.com/kubernetes/dns/blob/master/docs/specification.md
NAMES = [
    ("web.shop.svc.cluster.local", ("shop", "web")),
    ("WEB.Shop.svc.Cluster.Local.", ("shop", "web")),
    ("db.shop.svc.cluster.local", ("shop", "db")),
    ("_http._tcp.web.shop.svc.cluster.local", ("shop", "web")),
    ("db-0.db.shop.svc.cluster.local", ("shop", "db")),
    ("db-1.db.shop.svc.cluster.local", None),
    ("x.y.web.shop.svc.cluster.local", None),
    ("gone.shop.svc.cluster.local", None),
    ("web.other.svc.cluster.local", None),
    # A client's walk along its search path.
    ("web", None),
    ("web.shop", None),
    ("web.shop.svc", None),
    ("web.shop.svc.cluster.local.shop.svc.cluster.local", None),
    ("web.shop.svc.cluster.local.svc.cluster.local", None),
    ("web.shop.svc.cluster.local.cluster.local", None),
    ("web.shop.shop.svc.cluster.local", None),
    ("db.example.shop.svc.cluster.local", None),
    # Not Services.
    ("10-244-0-9.shop.pod.cluster.local", None),
    ("svc.cluster.local", None),
    ("shop.svc.cluster.local", None),
    ("cluster.local", None),
    ("", None),
    (".", None),
    ("web.shop.svc.other.zone", None),
]


@pytest.mark.parametrize(("name", "wanted"), NAMES)
def test_a_service_by_its_dns_name(name: str, wanted: tuple[str, str] | None) -> None:
    objects = [service("web"), service("shop"), service("db", clusterIP="None"), endpoints("db", "db-0", hostname="db-0")]
    assert Timeline.of(objects).service_of_dns_name(name, NOW_NS) == wanted


def test_another_zone_is_asked_for_by_name() -> None:
    timeline = Timeline.of([service("web")])
    assert timeline.service_of_dns_name("web.shop.svc.k8s.example", NOW_NS, zone="k8s.example.") == ("shop", "web")
    assert timeline.service_of_dns_name("web.shop.svc.cluster.local", NOW_NS, zone="k8s.example") is None


def test_external_names() -> None:
    objects = [
        external("db", "Db.Example.Test."),
        external("one", "shared.test"),
        external("two", "shared.test", namespace="other"),
        {**external("old", "unused.test"), "spec": {"type": "ClusterIP", "externalName": "unused.test"}},
        service("web"),
    ]
    assert Timeline.of(objects).external_names(NOW_NS) == {"db.example.test": ("shop", "db")}


def test_names_are_those_of_the_moment() -> None:
    first, second = external("db", "old.test"), external("db", "new.test")
    first["metadata"] = {**first["metadata"], "resourceVersion": "1"}
    second["metadata"] = {**first["metadata"], "resourceVersion": "2"}
    second_ns = 10**9
    events = [(How.ADDED, first, 0), (How.MODIFIED, second, 10), (How.DELETED, second, 20)]
    timeline = Timeline(Sighting(how, item, NOW_NS + after * second_ns, NOW_NS) for how, item, after in events)
    assert [list(timeline.external_names(NOW_NS + after * second_ns)) for after in (9, 10, 20)] == [["old.test"], ["new.test"], []]
    found = [timeline.service_of_dns_name("db.shop.svc.cluster.local", NOW_NS + after * second_ns) for after in (9, 20)]
    assert found == [("shop", "db"), None]


def pod(name: str, /, **labels: str) -> Object:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": created(0)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "labels": {f"app.kubernetes.io/{key}": text for key, text in labels.items()}},
    }


def test_proxies_by_labels_and_by_published_addresses() -> None:
    balancer = {"loadBalancer": {"ingress": [{"ip": "172.30.0.240"}]}}
    objects = [
        pod("nginx-1", name="ingress-nginx", component="controller"),
        pod("nginx-admission", name="ingress-nginx", component="admission-webhook"),
        pod("web-1", name="web"),
        {**ingress("a.test", ("/", "Prefix", "web")), "status": balancer},
        {**gateway(), "status": {"addresses": [{"type": "IPAddress", "value": "10.96.7.7"}, {"type": "Hostname", "value": "x.test"}]}},
        {**service("traefik", ("web", 80, 8000), type="LoadBalancer"), "status": balancer},
        service("envoy", ("http", 80, 8080), clusterIP="10.96.7.7"),
        service("web", ("http", 80, 8080)),
        endpoints("traefik", "traefik-1"),
        endpoints("envoy", "envoy-1"),
        endpoints("web", "web-1"),
    ]
    found = Timeline.of(objects).ingress_controllers(NOW_NS)
    assert found == {("shop", "nginx-1"): "labels", ("shop", "traefik-1"): "status", ("shop", "envoy-1"): "status"}
    assert Timeline().ingress_controllers(NOW_NS) == {}
