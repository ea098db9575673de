"""Whose a file is, and at which interface a capture was taken, as their names tell."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import SAMPLES
from packets import ethernet, ip4, pcap, tcp

from tracer.bundle import read_bundle
from tracer.bundle_files import node_of

NODES = ("node-a", "node-a-eth0-1", "ip-10-0-3-17.ec2.internal", "ip-10-0-3-18.ec2.internal", "two.one", "two.other")


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("node-a.pcap", "node-a"),
        ("node-a.eth0.pcap", "node-a"),
        ("node-a-eth0.pcap", "node-a"),
        ("node-a_20261130.pcap", "node-a"),
        ("node-a-eth0-1.pcap", "node-a-eth0-1"),  # the longest name
        ("node-a2.pcap", "node-a2"),
        ("api-pod.pcap", "api-pod"),
        ("ip-10-0-3-17.ec2.internal.pcap", "ip-10-0-3-17.ec2.internal"),
        ("ip-10-0-3-18.pcap", "ip-10-0-3-18.ec2.internal"),
        ("two.pcap", "two"),  # of two nodes
        ("renamed.pcap", "node-b"),
        ("node-a/1.pcap", "node-a"),
        ("node-a-eth0/1.pcap", "node-a"),
    ],
)
def test_a_file_is_the_node_s_that_its_name_begins_with(name: str, node: str) -> None:
    bundle = Path("bundle")
    assert node_of(bundle / name, {"renamed": "node-b"}, frozenset({bundle}), NODES) == node


@pytest.mark.parametrize(
    ("name", "interface"),
    [("node-a.eth0.pcap", "eth0"), ("node-a-eth0.pcap", "eth0"), ("node-a/eth0.pcap", "eth0"), ("node-a-later.pcap", "any")],
)
def test_a_capture_may_be_called_by_its_interface(name: str, interface: str, tmp_path: Path) -> None:
    sample = SAMPLES / "iptables"
    for path in (*sample.glob("cluster.json.gz"), *sample.glob("node-a.links.txt")):
        shutil.copy(path, tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(pcap([ethernet(ip4("10.0.0.1", "10.0.0.2", tcp(1, 2, "S")))]))
    bundle = read_bundle([tmp_path])
    assert [(point.node, point.interface) for point in bundle.points] == [("node-a", interface)]


def test_captures_without_a_packet_are_no_copies_of_one_another(tmp_path: Path) -> None:
    for name in ("node-a.pcap", "node-a.pcap1", "node-b.pcap"):
        (tmp_path / name).write_bytes(pcap([]))
    bundle = read_bundle([tmp_path])
    assert (sorted(bundle.captures), bundle.problems) == (["node-a.pcap", "node-a.pcap1", "node-b.pcap"], [])
