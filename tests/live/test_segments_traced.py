"""`hopline trace` takes the segments of a node for one capture: an interface is one place, in however many files."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLES
from packets import ETHERNET

from analysis.records import Recorder
from probes.links import read_links
from probes.live.budget import Budget
from probes.live.pcapng import InterfaceDescription, packet_blocks
from probes.live.segments import Limits, Segments
from tracer.bundle import read_bundle
from tracer.pipeline import same_points
from tracer.trace import trace

from .segmented import SECTION

SAMPLE = SAMPLES / "iptables"
NODES = ("node-a", "node-b", "node-c")
OUTGOING = 4  # a packet type of Linux's cooked headers
IN, OUT = 1, 2
OF_THE_FILE = {"file", "frame", "uncertainty_ns"}


def recorded(folder: Path, node: str, limits: Limits, only: slice = slice(None), budget: Budget | None = None) -> Segments:
    """The sample's capture of a node, as a recorder would have written it: Ethernet frames of each interface, by its name."""
    links = read_links((SAMPLE / f"{node}.links.txt").read_bytes())
    segments, content, at = Segments(folder / node, SECTION, budget or Budget(), limits), (SAMPLE / f"{node}.pcap").read_bytes(), 24
    rows, frames = [], []
    while at < len(content):
        seconds, fraction, captured, wire = struct.unpack_from("<IIII", content, at)
        protocol, _, ifindex, _, kind = struct.unpack_from("!HHIHB", content, at + 16)
        frames.append(bytes(12) + struct.pack("!H", protocol) + content[at + 36 : at + 16 + captured])
        number = segments.interface(InterfaceDescription(links[ifindex].name, ETHERNET))
        rows.append((number, seconds * 10**9 + fraction * 1000, wire - 6, OUT if kind == OUTGOING else IN, captured - 6))
        at += 16 + captured
    rows, frames = rows[only], frames[only]
    for start in range(0, len(rows), 31):
        interface, time_ns, wire, direction, captured = zip(*rows[start : start + 31], strict=True)
        data, ends = np.frombuffer(b"".join(frames[start : start + 31]), "u1"), np.cumsum(captured)
        columns = np.array(interface, "u4"), np.array(time_ns), np.array(wire, "u4"), np.array(direction, "u1")
        segments.write(packet_blocks(*columns, ends - captured, np.array(captured, "u4"), data))
    segments.close()
    return segments


def with_the_rest(folder: Path) -> Path:
    for path in SAMPLE.iterdir():
        if path.name.startswith("node-") and path.suffix == ".txt":
            shutil.copy(path, folder)
    return folder


def places(folder: Path) -> list[dict[str, Any]]:
    """All records, without what is their files': those, frames, and the unit of time, which is µs in the sample and ns in segments."""
    bundle = read_bundle([folder], [SAMPLE / "cluster.json.gz"])
    assert bundle.problems == []
    names = {(point.node, point.interface) for point in bundle.points}
    assert len(set(same_points(bundle.points).tolist())) == len(names)
    records = list(Recorder(trace(bundle)))
    for record in records:
        record["hops"] = [{name: value for name, value in hop.items() if name not in OF_THE_FILE} for hop in record["hops"]]
    return records


def test_segments_are_one_capture(tmp_path: Path) -> None:
    for node in NODES:
        recorded(with_the_rest(tmp_path), node, Limits(segment_bytes=10_000))
    assert len(list(tmp_path.glob("node-a/*.pcapng"))) > 10
    assert places(tmp_path) == places(SAMPLE)


@pytest.mark.parametrize("node", NODES)
def test_also_where_the_oldest_were_deleted(node: str, tmp_path: Path) -> None:
    """What is left is as if the recording had begun later, for one node."""
    for part in ("segments", "whole"):
        (tmp_path / part).mkdir()
        for other in NODES:
            if other != node:
                recorded(with_the_rest(tmp_path / part), other, Limits())
    segments = recorded(tmp_path / "segments", node, Limits(segment_bytes=5000), budget=Budget(60_000))
    assert segments.counters()["deleted_files"] > 5
    kept = sum(_packets(path) for path in (tmp_path / "segments" / node).iterdir())
    recorded(tmp_path / "whole", node, Limits(), slice(segments.counters()["seen"] - kept, None))
    assert places(tmp_path / "segments") == places(tmp_path / "whole")


def _packets(path: Path) -> int:
    content, at, found = path.read_bytes(), 0, 0
    while at < len(content):
        kind, size = struct.unpack_from("=II", content, at)
        found, at = found + (kind == 6), at + size
    return found
