"""A cluster under each of kube-proxy's modes, recorded on every node: each request is told as its client and its server logged it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kernel import rules
from kernel.cases import CASES, warm_up
from kernel.lab import Lab, lab
from kernel.services import NODES, cluster_objects
from kernel.traffic import Traffic
from live.road import RECORD, Recorded, holds

from . import ipvs_rules
from .truth import judge, line
from .web import Web, serving

SECONDS = 400  # for a recorder to begin or to end, on a translated processor
# name of a case: connections over IPv4 and over IPv6
ASKED = {
    "pod to ClusterIP": (11, 5), "NodePort": (7, 3), "NodePort, policy Local": (5, 2), "pod to its own node's NodePort": (3, 1),
    "pod to another node's NodePort": (5, 2), "hairpin": (5, 2), "headless": (2, 1), "pod to pod, same node": (2, 1),
    "pod to pod, other node": (5, 2), "node to ClusterIP": (7, 3), "node to pod": (2, 1), "Service with a local endpoint only": (2, 1),
    "Service without endpoints rejects": (3, 0), "nothing listens": (3, 2),
}  # fmt: skip
LOSSY = ("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "3ms", "1ms", "loss", "3%")


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    """What nothing loads by itself: bridges that show their packets to the rules, and conntrack's messages."""
    subprocess.run(["modprobe", "-a", "br_netfilter", "nf_conntrack_netlink"], check=True)


def install(built: Lab, flavour: str) -> None:
    """kube-proxy's rules on every node."""
    if flavour == "ipvs":
        ipvs_rules.install(built)
    else:
        rules.install(built, flavour)


def ask(web: Web) -> None:
    """All connections of ASKED, one after the other."""
    assert ASKED.keys() <= {case.name for case in CASES}
    for case in CASES:
        for family, count in enumerate(ASKED.get(case.name, ())):
            for _ in range(count):
                web.connect(case, family)
    web.settle()


def record(built: Lab, web: Web, folder: Path) -> list[Recorded]:
    """Every node's recording of all that is asked."""
    started = [Recorded(built, folder / node, place=node, node=node, wait=False, seconds=SECONDS) for node in NODES]
    for each in started:
        each.until(lambda lines: any(line["event"] == "recording" for line in lines))
    ask(web)
    accounts = [each.end() for each in started]
    assert not [line for each in started for line in each.said() if line["event"] in ("unavailable", "failed", "gap")]
    assert all(map(holds, accounts))
    assert [account["packets"]["all"]["dropped"] for account in accounts] == [0, 0]
    return started


def traced(recordings: list[Recorded], cluster: Path) -> list[dict[str, Any]]:
    """What `hopline trace` says of all nodes together."""
    words = [*RECORD[:-1], "trace", "--json", *(str(each.folder) for each in recordings), str(cluster)]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def lost_on_links(built: Lab) -> int:
    """Packets that netem dropped."""
    told = "".join(built.run(node, "tc", "-s", "qdisc", "show", "dev", "eth0") for node in NODES)
    return sum(map(int, re.findall(r"\(dropped (\d+),", told)))


@pytest.mark.parametrize(("flavour", "lossy"), [("ipvs", True), ("iptables-nft", False), ("nftables", False)])
def test_every_request_is_told_as_it_was_logged(flavour: str, lossy: bool, tmp_path: Path) -> None:
    with lab("vm", bridge_nf=flavour != "nftables") as built:
        install(built, flavour)
        warm_up(Traffic(built))
        if lossy:
            for node in NODES:
                built.run(node, *LOSSY)
        with serving(built, tmp_path / "logs") as web:
            recordings = record(built, web, tmp_path)
        assert (lost_on_links(built) > 0) == lossy
    (tmp_path / "truth.jsonl").write_text("".join(f"{json.dumps(line(call))}\n" for call in web.calls))
    cluster = tmp_path / "cluster.json"
    cluster.write_text(json.dumps(cluster_objects()))
    records = traced(recordings, cluster)
    (tmp_path / "out.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    found = judge(web.calls, records)
    assert found.judged == len(web.calls)
    assert found.wrong == 0, "\n".join(found.told)
    assert found.exact >= 0.99 * found.judged, "\n".join(found.told)
    if lossy:
        assert any(record["retransmissions"] for record in records)
