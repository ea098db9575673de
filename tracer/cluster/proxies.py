"""Which pods are L7 proxies, as far as metadata tells."""

from __future__ import annotations

from collections.abc import Callable

from tracer.cluster.fields import Object, address, dicts, string
from tracer.cluster.routes import identity
from tracer.cluster.services import service_addresses, slice_service

KINDS = ("Pod", "Service", "EndpointSlice", "Ingress", "Gateway")
# ingress-nginx's own labels (its Helm chart and static manifests); its admission jobs have another component.
LABELS = {"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}


def controllers(objects: Callable[[str], list[Object]]) -> dict[tuple[str, str], str]:
    """{(namespace, pod): why}: by `labels` of ingress-nginx, or by `status`: behind a Service whose address an Ingress or Gateway has."""
    published = {address(string(entry, "ip")) for item in objects("Ingress") for entry in dicts(item, "status", "loadBalancer", "ingress")}
    published |= {address(string(entry, "value")) for item in objects("Gateway") for entry in dicts(item, "status", "addresses")}
    fronts = {identity(item) for item in objects("Service") if not published.isdisjoint(service_addresses(item))}
    found: dict[tuple[str, str], str] = {}
    for item in objects("EndpointSlice"):
        for endpoint in dicts(item, "endpoints") if slice_service(item) in fronts else ():
            pod = string(endpoint, "targetRef", "name")
            if pod is not None and string(endpoint, "targetRef", "kind") == "Pod":
                found[identity(item)[0], pod] = "status"
    for item in objects("Pod"):
        if all(string(item, "metadata", "labels", name) == value for name, value in LABELS.items()):
            found[identity(item)] = "labels"
    return found
