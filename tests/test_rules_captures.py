"""The rules of every recorded node against the API objects of the same moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.addresses import parse, text
from tracer.rules import DUMPS, ProxyRules, ServicePath, read_rules

CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[2] / "shared" / "captures")
pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no recorded captures at {CAPTURES} (set HOPLINE_CAPTURES)")

Where = frozenset[tuple[str, int]]


def recorded() -> list[tuple[Path, str]]:
    nodes = {(path.parent, path.name.partition(".")[0]) for kind in DUMPS for path in CAPTURES.glob(f"*/*/node-*.{kind}.txt")}
    return sorted(nodes)


def items(folder: Path, name: str, kind: str) -> list[dict[str, Any]]:
    return [item for item in json.loads((folder / name).read_text())["items"] if item["kind"] == kind]


def ready(slices: list[dict[str, Any]], service: tuple[str, str], port: dict[str, Any], family: str, node: str | None) -> Where:
    """Addresses and ports of a Service port's ready endpoints, on one node or (None) on all."""
    found = set()
    for one in slices:
        labels = one["metadata"]["labels"]
        if (one["metadata"]["namespace"], labels["kubernetes.io/service-name"], one["addressType"]) != (*service, family):
            continue
        numbers = [slice_port["port"] for slice_port in one["ports"] or [] if slice_port["name"] == port["name"]]
        for entry in one["endpoints"] or []:
            if entry["conditions"]["ready"] and node in (None, entry.get("nodeName")):
                found |= {(address, number) for address in entry["addresses"] for number in numbers}
    return frozenset(found)


def expected(folder: Path, objects: str, node: str) -> Iterator[tuple[str, str, int, str, Where, Where]]:
    """Per Service address and port: name, address ("" for a nodePort of IPv4, "::" of IPv6), port, protocol, endpoints, all of them."""
    slices = items(folder, objects, "EndpointSlice")
    for service in items(folder, objects, "Service"):
        metadata, spec = service["metadata"], service["spec"]
        for port in spec.get("ports", []):
            for address in spec.get("clusterIPs", []):
                if address == "None":
                    continue
                key = (metadata["namespace"], metadata["name"])
                name = f"{key[0]}/{key[1]}:{port['name']}"
                family = "IPv6" if ":" in address else "IPv4"
                everywhere = ready(slices, key, port, family, None)
                here = ready(slices, key, port, family, node)
                inside = here if spec.get("internalTrafficPolicy") == "Local" else everywhere
                outside = here if spec.get("externalTrafficPolicy") == "Local" else everywhere
                yield name, address, port["port"], port["protocol"], inside, everywhere
                balanced = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
                for one in balanced:
                    if (":" in one["ip"]) == (family == "IPv6"):
                        yield name, one["ip"], port["port"], port["protocol"], outside, everywhere
                if "nodePort" in port:
                    yield name, "::" if family == "IPv6" else "", port["nodePort"], port["protocol"], outside, everywhere


def path_to(rules: ProxyRules, address: str, port: int, protocol: str) -> ServicePath | None:
    if address in ("", "::"):
        return rules.node_port_path(port, protocol, ipv6=address == "::")
    return rules.service_path(parse(address), port, protocol)


def differences(folder: Path, objects: str, node: str, rules: ProxyRules) -> tuple[list[str], int]:
    wrong, seen = [], 0
    for name, address, port, protocol, endpoints, everywhere in expected(folder, objects, node):
        seen += 1
        path = path_to(rules, address, port, protocol)
        # Where policy Local leaves no endpoint, IPVS falls back to all.
        wanted = everywhere if rules.mode == "ipvs" and not endpoints else endpoints
        found = frozenset((text(*one.address), one.port) for one in path.endpoints) if path else None
        service_known = path is not None and path.service in ({None} if rules.mode == "ipvs" else {name})
        if found != wanted or not service_known:
            wrong.append(f"{name} {address}:{port}/{protocol}: {found}, expected {wanted} ({path})")
    return wrong, seen


@pytest.mark.parametrize(("folder", "node"), recorded(), ids=lambda value: value if isinstance(value, str) else "/".join(value.parts[-2:]))
def test_every_service_has_its_path_and_its_endpoints(folder: Path, node: str) -> None:
    dumps = {kind: path.read_text() for kind in DUMPS if (path := folder / f"{node}.{kind}.txt").exists()}
    rules, problems = read_rules(dumps, node)
    assert problems == []
    assert rules.mode == folder.parent.name.removesuffix("-vm")
    # Rules are recorded beside the start or the end of a capture: they must agree with the objects of one of the two.
    results = [differences(folder, name, node, rules) for name in ("cluster.json", "cluster-start.json") if (folder / name).exists()]
    assert min(seen for _, seen in results) > 20
    assert [] in [wrong for wrong, _ in results], results[0][0]
