"""From `hopline collect` to `hopline trace`: real recorders in the namespaces of a cluster's nodes, against what its sockets saw."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.cases import warm_up
from kernel.conftest import match
from kernel.lab import Lab, lab, missing
from kernel.rules import install
from kernel.services import NODES, SERVICES, cluster_objects
from kernel.traffic import Traffic, servers, text

from analysis.records import Recorder
from probes.addresses import endpoint, parse
from tracer.bundle import read_bundle
from tracer.cluster import read_cluster
from tracer.trace import trace

from .collected import PATIENCE_SECONDS, Cluster, account, until
from .server import PATHS, ROOT

WEB = [service for service in SERVICES if service.name == "web"]
SETTLE_SECONDS = 1.0


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Lab, Traffic]]:
    if reason := missing():
        pytest.skip(reason)
    with lab("collect", bridge_nf=True) as place:
        install(place, "iptables-nft")
        with servers(place) as traffic:
            yield place, traffic


@pytest.fixture
def nodes(cluster: Cluster, built: tuple[Lab, Traffic], tmp_path: Path) -> Cluster:
    """The lab as the API server tells it, with hopline's agent on every node."""
    for node in NODES:
        cluster.add(node, prefix=built[0].command(node), program=Path(sys.executable).with_name("hopline"))
    cluster.server.objects[PATHS["Node"]].clear()  # the lab's own instead
    for item in cluster_objects()["items"]:
        cluster.server.put(item)
    return cluster


def collect_while(nodes: Cluster, bundle: Path, traffic: Traffic, *options: str) -> None:
    """Record on all nodes while clients ask for what they ask for."""
    command = nodes.command("-o", bundle, "--duration", "5m", "--start-in", "1s", *options)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or all(b'"recording"' in nodes.said(node) for node in NODES))
            assert process.poll() is None
            warm_up(traffic)
            ask(traffic)
            time.sleep(SETTLE_SECONDS)
        finally:
            process.terminate()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said


def ask(traffic: Traffic) -> None:
    """Calls of every kind that a Service's packets can be part of, and some that are none of its business."""
    (port,) = {service.node_port for service in WEB if service.proto == "tcp"}
    for family in (0, 1):
        vip, other = WEB[0].vips[family], next(service for service in SERVICES if service.name == "self").vips[family]
        for _ in range(23):
            traffic.tcp("web", "front", (vip, 80), size=3000)
        for _ in range(7):
            traffic.tcp("web", "client", (NODES["node-a"].addresses[family], port))
            traffic.tcp("web", "client", (NODES["node-b"].addresses[family], port))
            traffic.udp("web", "front", (vip, 53))
            traffic.tcp("other", "front", (other, 80))
            traffic.udp("other", "front", (other, 53))
    traffic.settle()


def records_of(bundle: Path) -> list[dict[str, Any]]:
    return list(Recorder(trace(read_bundle([bundle]))))


def agree(traffic: Traffic, records: list[dict[str, Any]], case: str | None) -> None:
    """Every attempt of `case` is one record with its tuples as both sockets saw them, and there is no other record."""
    made = [attempt for attempt in traffic.attempts if case in (None, attempt.case)]
    assert made
    matched = match(made, records)
    assert sorted(matched.pairs) == list(range(len(made)))
    assert [(record["protocol"], record["original"], record["translated"]) for record in matched.extra] == []
    for position, record in matched.pairs.items():
        attempt = made[position]
        assert attempt.outcome == record["status"] == "closed"
        original, translated = (record[name]["src"] + " " + record[name]["dst"] for name in ("original", "translated"))
        assert (original, translated) == (" ".join(attempt.original), " ".join(attempt.translated or ()))
        assert record["server"]["name"] == attempt.server_place
        assert record["service"]["name"] == ("web" if attempt.case == "web" else "self")


def test_what_all_nodes_recorded_is_what_sockets_saw(nodes: Cluster, built: tuple[Lab, Traffic], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    built[1].attempts.clear()
    collect_while(nodes, bundle, built[1])
    agree(built[1], [record for record in records_of(bundle) if record["protocol"] in ("tcp", "udp")], None)
    for node, told in account(bundle).items():
        assert told["complete"], told
        assert told["last"]["seen"] == told["last"]["written"] + told["last"]["dropped"] > 0
        assert told["last"]["dropped"] == 0
        assert nodes.left(node) == []
    timeline, problems = read_cluster([*sorted(bundle.glob("cluster*.json")), bundle / "watch.jsonl"])
    assert problems == []
    assert {item["metadata"]["name"] for item in timeline.objects("Node")} == set(NODES)


def test_a_service_is_followed_through_nat_and_nothing_else_is_kept(nodes: Cluster, built: tuple[Lab, Traffic], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    built[1].attempts.clear()
    collect_while(nodes, bundle, built[1], "--service", "shop/web")
    agree(built[1], records_of(bundle), "web")
    options = json.loads((bundle / "collection.json").read_text())["options"]
    told = {value for name, value in itertools.pairwise(options) if name == "--endpoint"}
    assert told >= {endpoint(*parse(vip), port) for vip in WEB[0].vips for port in (80, 53)}
    assert told >= {text((NODES[node].addresses[family], port)) for node in NODES for family in (0, 1) for port in (30080, 30053)}
    assert told >= {"10.244.1.11:8080", "10.244.2.12:5353", "[fd00:10:244:1::11]:8080", "[fd00:10:244:2::12]:5353"}
