"""Names in DNS to Services: the cluster's own names, and the targets of ExternalName Services.

https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

from collections.abc import Iterable

from tracer.cluster.fields import Object, dicts, string
from tracer.cluster.routes import identity


def canonical(name: str) -> str:
    """A DNS name as names are compared: lower case, without the root's dot."""
    return name.rstrip(".").lower()


def external_names(services: Iterable[Object]) -> dict[str, tuple[str, str]]:
    """{target: (namespace, name)} of ExternalName Services; a target that several have names none of them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for item in services:
        target = string(item, "spec", "externalName")
        if string(item, "spec", "type") == "ExternalName" and target:
            found.setdefault(canonical(target), []).append(identity(item))
    return {target: owners[0] for target, owners in found.items() if len(owners) == 1}


def service_labels(qname: str, zone: str) -> tuple[str, str, tuple[str, ...]] | None:
    """(namespace, name, labels before it) of a name in the cluster's zone; None for any other name, short ones among them.

    A client walks its search path: `web.demo.svc.cluster.local.demo.svc.cluster.local` is asked for and does not exist.
    """
    labels, suffix = canonical(qname).split("."), ["svc", *canonical(zone).split(".")]
    place = len(labels) - len(suffix)
    if place < 2 or labels[place:] != suffix:
        return None
    return labels[place - 1], labels[place - 2], tuple(labels[: place - 2])


def has_name(before: tuple[str, ...], slices: Iterable[Object]) -> bool:
    """Whether a Service has names with these labels before its own: none, `_port._protocol` (SRV), or an endpoint's hostname."""
    if len(before) == 2:
        return all(label.startswith("_") for label in before)
    hostnames = {string(endpoint, "hostname") for item in slices for endpoint in dicts(item, "endpoints")}
    return not before or (len(before) == 1 and before[0] in hostnames)
