"""Clocks on recorded captures, whose true clocks are known: one machine's, or that clock falsified by known amounts (skew.json)."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
from conftest import Hopline

from probes.decode.numbers import PACKET
from probes.schema import Array
from tracer.bundle import read_bundle
from tracer.clocks import Clocks, clocks
from tracer.clocks.crossings import crossings
from tracer.pipeline import Reconstruction, reconstruct

MOMENTS = 101
ONE_CLOCK = {"offset_s": 0.0, "drift": 0.0, "reference_true_time": 0.0}


@cache
def traced(folder: Path) -> Reconstruction:
    bundle = read_bundle([folder])
    return reconstruct(bundle.observations, bundle.points, bundle.ledgers)


@cache
def falsified(folder: Path) -> dict[str, dict[str, float]]:
    path = folder / "skew.json"
    return json.loads(path.read_text()) if path.exists() else {}


def shown(folder: Path, node: str, true_ns: Array) -> Array:
    """What a node's clock showed at true times: recorded = true + offset + drift * (true - reference)."""
    error = falsified(folder).get(node, ONE_CLOCK)
    since = true_ns - round(error["reference_true_time"] * 1e9)
    return true_ns + round(error["offset_s"] * 1e9) + np.rint(error["drift"] * since).astype("i8")


def moments(found: Reconstruction) -> Array:
    """True times from the first to the last packet (a falsified clock is off by less than what is missing at the ends)."""
    times = found.observations["time_ns"][found.sighting_rows]
    return np.linspace(0, int(np.ptp(times)), MOMENTS).astype("i8") + times.min()


def check_truth(folder: Path, found: Clocks, nodes: tuple[str, ...], true_ns: Array) -> None:
    assert found.known.all()
    assert found.problems == []
    aligned = [found.align(np.full(MOMENTS, row), shown(folder, node, true_ns)) for row, node in enumerate(nodes)]
    for one, times in enumerate(aligned):
        for other, others in enumerate(aligned):
            uncertain = found.uncertainty(np.full(MOMENTS, one), np.full(MOMENTS, other), times)
            assert (np.abs(others - times) <= uncertain).all(), (nodes[one], nodes[other])
            assert (uncertain > 0).all() or one == other


def test_true_clocks_lie_within_their_limits_everywhere(capture: Path) -> None:
    tables = traced(capture)
    for reference in (None, 0, 1, 2):
        check_truth(capture, clocks(tables, reference), tables.nodes, moments(tables))


def test_stated_offsets_and_drifts_hold_and_are_no_wider_than_a_round_trip(capture: Path) -> None:
    tables = traced(capture)
    found = clocks(tables)
    reference = falsified(capture).get(tables.nodes[found.reference], ONE_CLOCK)
    true = np.array([found.reference_time_ns])
    for _ in range(4):  # when the reference's clock showed the reference time
        true -= shown(capture, tables.nodes[found.reference], true) - found.reference_time_ns
    for node in found.nodes:
        low, high, drift_low, drift_high = node.offset_low_ns, node.offset_high_ns, node.drift_low_ppm, node.drift_high_ppm
        assert low is not None
        assert high is not None
        assert drift_low is not None
        assert drift_high is not None
        assert low <= shown(capture, node.node, true)[0] - found.reference_time_ns <= high
        drift = (1 + falsified(capture).get(node.node, ONE_CLOCK)["drift"]) / (1 + reference["drift"]) - 1
        assert drift_low <= 1e6 * drift <= drift_high
        assert node.smallest_round_trip_ns is not None
        assert high - low <= node.smallest_round_trip_ns


def test_no_packet_arrives_before_it_left(capture: Path) -> None:
    tables = traced(capture)
    found, seen = clocks(tables), crossings(tables)
    left = found.align(seen["sender"], seen["left_ns"])
    taken = found.align(seen["receiver"], seen["arrived_ns"]) - left
    assert len(taken) > 300
    assert (taken >= -found.uncertainty(seen["sender"], seen["receiver"], left)).all()
    if not falsified(capture):
        assert (seen["arrived_ns"] >= seen["left_ns"]).all()  # one clock: nothing but true order


def test_no_hop_between_nodes_is_negative_beyond_its_limits(capture: Path) -> None:
    tables = traced(capture)
    found, hops = clocks(tables), tables.hops
    times = found.align(hops["node"], hops["time_ns"])
    after = np.flatnonzero(hops["position"] > 0)
    crossed = after[hops["node"][after] != hops["node"][after - 1]]
    uncertain = found.uncertainty(hops["node"][crossed], hops["node"][crossed - 1], times[crossed])
    assert len(crossed) > 30
    assert (times[crossed] - times[crossed - 1] >= -uncertain).all()


def test_tunnelled_packets_alone_tell_as_much(capture: Path) -> None:
    """As captures of the nodes' own interfaces have them: one TTL at both ends, so only replies tell the order."""
    tables = traced(capture)
    seen = tables.observations
    kept = (seen["tunnel"][tables.sighting_rows] != 0) & (seen["view"][tables.sighting_rows] == PACKET)
    fields = ("sighting_rows", "sighting_connections", "sighting_forward", "sighting_identities")
    outside = dataclasses.replace(tables, **{name: getattr(tables, name)[kept] for name in fields})
    found = clocks(outside)
    check_truth(capture, found, tables.nodes, moments(tables))
    if not falsified(capture):
        crossed = crossings(outside)
        assert (crossed["arrived_ns"] >= crossed["left_ns"]).all()


def test_samples_show_one_machine_with_one_clock(sample: Path) -> None:
    tables = traced(sample)
    check_truth(sample, clocks(tables), tables.nodes, moments(tables))


def test_the_command_tells_what_the_function_does(hopline: Hopline, sample: Path) -> None:
    run = hopline("clocks", sample, "--json", "--reference", "node-c")
    assert run.code == 0
    told = json.loads(run.out)
    found = clocks(traced(sample), 2)
    assert told["reference"] == "node-c"
    assert told["reference_time_ns"] == found.reference_time_ns
    assert told["nodes"] == [dataclasses.asdict(node) for node in found.nodes]
    assert told["problems"] == []


def test_the_table_has_a_line_per_node_and_what_is_unknown(hopline: Hopline, sample: Path) -> None:
    whole = hopline("clocks", sample, columns=None).out
    assert all(f"\n node-{letter} " in whole for letter in "abc")
    packed = sample / "node-a.pcap.gz"
    one = hopline("clocks", packed if packed.exists() else sample / "node-a.pcap", columns=None)
    assert one.code == 0
    assert "against the clock of node-a" in one.out


def test_an_unknown_reference_is_refused(hopline: Hopline, sample: Path) -> None:
    run = hopline("clocks", sample, "--reference", "node-z")
    assert run.code == 2
    assert "no node node-z (there are node-a, node-b, node-c)" in run.err


def test_nothing_to_read(hopline: Hopline, tmp_path: Path) -> None:
    assert hopline("clocks", tmp_path).code == 3
