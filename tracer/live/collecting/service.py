"""Endpoints that a Service gets while it is being recorded."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from probes.addresses import parse, text

_SLICE_OF = "kubernetes.io/service-name"  # the label of EndpointSlices (Kubernetes, discovery/v1 well_known_labels.go)
Endpoint = tuple[str, int]  # address, port


class EndpointChanges:
    """What a watch tells of a Service's endpoints that were not among the addresses which recorders were told."""

    def __init__(self, namespace: str, name: str, told: Collection[Endpoint]) -> None:
        self._namespace, self._name, self._told = namespace, name, frozenset(told)
        self.added: dict[Endpoint, float] = {}  # when each was first seen, seconds since the epoch

    def take(self, line: bytes) -> None:
        """One line of `tracer.live.watch`."""
        if b'"EndpointSlice"' not in line:
            return
        event = json.loads(line)
        metadata = event["object"].get("metadata") or {}
        if metadata.get("namespace") == self._namespace and (metadata.get("labels") or {}).get(_SLICE_OF) == self._name:
            for endpoint in _endpoints(event["object"]):
                if endpoint not in self._told:
                    self.added.setdefault(endpoint, event["ts"])


def _endpoints(slice_: dict[str, Any]) -> Iterator[Endpoint]:
    if slice_.get("addressType") == "FQDN":
        return
    for port in slice_.get("ports") or []:
        for endpoint in slice_.get("endpoints") or []:
            yield from ((text(*parse(address)), port["port"]) for address in endpoint.get("addresses") or [] if port.get("port"))
