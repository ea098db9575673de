"""Clocks of nodes from packets: known offsets, drifts, delays and steps are found again, inside the stated limits, and never invented."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from clock_packets import SECOND, START_NS, Clock, Wire, clock
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.clocks import Clocks, clocks
from tracer.clocks.crossings import CROSSINGS, crossings

MOMENTS = 23
EXAMPLES = 60


def talk(
    wire: Wire, path: list[str], seconds: float, packets: int, delays_ns: tuple[int, int], seed: int, *, port: int = 40_000,
    ways: str = "both",
) -> None:  # fmt: skip
    """Packets to and fro along `path`, at random moments; delays of each way between its least (`delays_ns`) and ten times that."""
    random_delays = random.Random(seed)
    for number in range(packets):
        at = START_NS + int(seconds * SECOND * (number + random_delays.random()) / packets)
        back = ways == "back" or (ways == "both" and number % 2 == 1)
        least = delays_ns[back]
        delays = [int(least * (1 + 9 * random_delays.random() ** 4)) for _ in path[1:]]
        wire.send(path[::-1] if back else path, at, delays, port=port, reply=back)


def check(found: Clocks, wire: Wire, start_ns: int, end_ns: int) -> None:
    """Every tied pair of nodes at MOMENTS of true time: what both showed then is aligned to one time, within the stated limits."""
    names = sorted(wire.clocks)
    true = [start_ns + (end_ns - start_ns) * moment // (MOMENTS - 1) for moment in range(MOMENTS)]
    shown = {row: np.array([wire.clocks[name](at) for at in true]) for row, name in enumerate(names)}
    aligned = {row: found.align(np.full(MOMENTS, row), times) for row, times in shown.items()}
    for one, times in aligned.items():
        for other, others in aligned.items():
            uncertain = found.uncertainty(np.full(MOMENTS, one), np.full(MOMENTS, other), times)
            if found.group[one] == found.group[other]:
                assert (np.abs(others - times) <= uncertain).all(), (names[one], names[other], np.abs(others - times) - uncertain)
            else:
                assert (uncertain == -1).all()


def offset_at_reference(found: Clocks, wire: Wire, node: str) -> int:
    """The true offset of `node` to the reference when the reference's clock shows the reference time."""
    reference = wire.clocks[found.nodes[found.reference].node]
    true = found.reference_time_ns
    for _ in range(6):
        true -= reference(true) - found.reference_time_ns
    return wire.clocks[node](true) - found.reference_time_ns


offsets = st.integers(-10 * SECOND, 10 * SECOND) | st.integers(-(10**17), 10**17) | st.just(0)
drifts = st.floats(-100e-6, 100e-6)
leasts = st.integers(0, 1_000_000)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    wrong=st.lists(st.tuples(offsets, drifts), min_size=2, max_size=4), delays=st.lists(st.tuples(leasts, leasts), min_size=3, max_size=3),
    seconds=st.sampled_from([0.01, 1.0, 100.0, 10_000.0]), packets=st.integers(4, 60), resolution_ns=st.sampled_from([1, 1000]),
    seed=st.integers(0, 99), together=st.booleans(),
)  # fmt: skip
def test_true_clocks_lie_within_the_stated_limits(
    wrong: list[tuple[int, float]],
    delays: list[tuple[int, int]],
    seconds: float,
    packets: int,
    resolution_ns: int,
    seed: int,
    together: bool,
) -> None:
    names = [f"node-{letter}" for letter in "abcd"[: len(wrong)]]
    wire = Wire({name: clock(*error) for name, error in zip(names, wrong, strict=True)}, resolution_ns)
    if together:
        talk(wire, names, seconds, packets, delays[0], seed)  # one connection through all nodes
    else:
        for number, path in enumerate(pairwise(names)):  # neighbours talk; a and c never do
            talk(wire, list(path), seconds, packets, delays[number], seed, port=40_000 + number)
    found = clocks(wire.reconstruct())
    assert found.known.all()
    assert found.problems == []
    check(found, wire, START_NS, START_NS + int(seconds * SECOND))
    for node in found.nodes:
        assert node.offset_low_ns is not None
        assert node.offset_high_ns is not None
        assert node.offset_low_ns <= offset_at_reference(found, wire, node.node) <= node.offset_high_ns
        assert node.offset_ns is not None
        assert node.offset_low_ns <= node.offset_ns <= node.offset_high_ns
        assert node.drift_low_ppm is not None
        assert node.drift_high_ppm is not None
        relative = (1 + wrong[names.index(node.node)][1]) / (1 + wrong[found.reference][1]) - 1
        assert node.drift_low_ppm - 1e-3 <= 1e6 * relative <= node.drift_high_ppm + 1e-3


@pytest.mark.parametrize(("least", "most"), [((20_000, 20_000), 50_000), ((5_000, 400_000), 420_000)])
def test_limits_are_as_narrow_as_the_quickest_packets_allow(least: tuple[int, int], most: int) -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(37_123_456, 40e-6)})
    talk(wire, ["node-a", "node-b"], 10, 2003, least, 1)
    found = clocks(wire.reconstruct())
    node = found.nodes[1]
    assert node.offset_high_ns is not None
    assert node.offset_low_ns is not None
    assert sum(least) < node.offset_high_ns - node.offset_low_ns < most
    assert node.smallest_round_trip_ns is not None
    assert node.offset_high_ns - node.offset_low_ns <= node.smallest_round_trip_ns
    assert node.drift_ppm == pytest.approx(40, abs=20)


def test_a_drift_is_not_mistaken_for_delay() -> None:
    """Over a long capture the drift is far more than the delays: only a line shows them."""
    wire = Wire({"node-a": clock(), "node-b": clock(0, 80e-6)})
    talk(wire, ["node-a", "node-b"], 3000, 1009, (50_000, 50_000), 2)
    found = clocks(wire.reconstruct())
    assert found.nodes[1].drift_ppm == pytest.approx(80, abs=0.2)
    assert found.uncertainty(np.array([0]), np.array([1]), np.array([START_NS + 1500 * SECOND]))[0] < 100_000
    check(found, wire, START_NS, START_NS + 3000 * SECOND)


@pytest.mark.parametrize("ways", ["there", "back"])
def test_packets_one_way_limit_an_offset_from_one_side_and_it_is_said(ways: str) -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(5 * SECOND)})
    talk(wire, ["node-a", "node-b"], 10, 101, (50_000, 50_000), 3, ways=ways)
    found = clocks(wire.reconstruct(), reference=0)
    assert found.known.tolist() == [True, False]
    assert found.nodes[1].offset_ns is None
    assert found.nodes[1].pairs >= 101
    assert found.uncertainty(np.array([0]), np.array([1]), np.array([START_NS]))[0] == -1
    assert found.align(np.array([1]), np.array([START_NS]))[0] == START_NS
    seen = "from node-a to node-b only" if ways == "there" else "from node-b to node-a only"
    assert any(seen in problem for problem in found.problems)
    assert any("node-b to the reference: offset unknown" in problem for problem in found.problems)


def test_one_way_packets_around_a_circle_tie_all_clocks() -> None:
    """a to b, b to c, c to a: no pair has a round trip, the three together have one."""
    wire = Wire({"node-a": clock(), "node-b": clock(3 * SECOND, 20e-6), "node-c": clock(-SECOND, -10e-6)})
    for number, path in enumerate((["node-a", "node-b"], ["node-b", "node-c"], ["node-c", "node-a"])):
        talk(wire, path, 10, 211, (50_000, 50_000), number, port=40_000 + number, ways="there")
    found = clocks(wire.reconstruct())
    assert found.known.all()
    check(found, wire, START_NS, START_NS + 10 * SECOND)


def test_nodes_that_never_meet_are_not_compared_and_groups_keep_their_own_time() -> None:
    wire = Wire(
        {name: clock(offset) for name, offset in (("node-a", 0), ("node-b", SECOND), ("node-c", 9 * SECOND), ("node-d", 7 * SECOND))}
    )
    talk(wire, ["node-a", "node-b"], 10, 101, (50_000, 50_000), 4)
    talk(wire, ["node-c", "node-d"], 10, 23, (50_000, 50_000), 5, port=50_000)
    found = clocks(wire.reconstruct())
    assert found.reference == 0
    assert found.known.tolist() == [True, True, False, False]
    assert [found.nodes[row].offset_ns is None for row in range(4)] == [False, False, True, True]
    assert found.group.tolist() == [0, 0, 2, 2]
    assert any("node-c, node-d" in problem for problem in found.problems)
    check(found, wire, START_NS, START_NS + 10 * SECOND)


def test_one_node_is_its_own_clock() -> None:
    wire = Wire({"node-a": clock(SECOND)})
    talk(wire, ["node-a", "elsewhere"], 1, 23, (50_000, 50_000), 6)
    found = clocks(wire.reconstruct())
    (node,) = found.nodes
    assert (node.offset_ns, node.offset_low_ns, node.offset_high_ns, node.drift_ppm, node.known, node.pairs) == (0, 0, 0, 0, True, 0)
    assert found.problems == []
    assert found.align(np.array([0]), np.array([START_NS])).tolist() == [START_NS]
    assert found.uncertainty(np.array([0]), np.array([0]), np.array([START_NS])).tolist() == [0]


def test_no_packets_no_clocks() -> None:
    found = clocks(Wire({"node-a": clock(), "node-b": clock()}).reconstruct())
    assert found.known.tolist() == [True, False]
    assert [node.offset_ns for node in found.nodes] == [0, None]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    step_ns=st.sampled_from([-1, 1]).flatmap(lambda sign: st.integers(20_000_000, 3 * SECOND).map(lambda size: sign * size)),
    share=st.floats(0.1, 0.9), packets=st.integers(40, 400), seed=st.integers(0, 99), stepped=st.sampled_from("abc"), drift=drifts,
    reference=st.sampled_from([None, 0, 1, 2]),
)  # fmt: skip
def test_a_stepped_clock_is_said_and_widens_the_limits(
    step_ns: int, share: float, packets: int, seed: int, stepped: str, drift: float, reference: int | None
) -> None:
    seconds = 10
    clocks_of: dict[str, Clock] = {f"node-{letter}": clock(SECOND, drift) for letter in "abc"}
    clocks_of[f"node-{stepped}"] = clock(-SECOND, drift, step_ns=step_ns, step_at_ns=START_NS + int(share * seconds * SECOND))
    wire = Wire(clocks_of)
    for number, path in enumerate(pairwise(sorted(clocks_of))):
        talk(wire, list(path), seconds, packets, (20_000, 20_000), seed, port=40_000 + number)
    found = clocks(wire.reconstruct(), reference)
    check(found, wire, START_NS, START_NS + seconds * SECOND)
    assert any("stepped" in problem for problem in found.problems)


def test_around_a_step_limits_are_wide_and_elsewhere_narrow() -> None:
    step_at = START_NS + 5 * SECOND
    wire = Wire({"node-a": clock(), "node-b": clock(0, 10e-6, step_ns=50_000_000, step_at_ns=step_at)})
    talk(wire, ["node-a", "node-b"], 10, 2003, (20_000, 20_000), 7)
    found = clocks(wire.reconstruct(), reference=0)
    (problem,) = found.problems
    assert "2 pieces" in problem
    early, at, late = found.uncertainty(
        np.zeros(3, int), np.ones(3, int), np.array([START_NS + SECOND, step_at, START_NS + 9 * SECOND])
    ).tolist()
    assert early < 100_000
    assert late < 100_000
    assert at > 20_000_000
    check(found, wire, START_NS, START_NS + 10 * SECOND)


@pytest.mark.parametrize("node", ["node-a", "node-b"])
@pytest.mark.parametrize("error_s", [-77, 77])
def test_damaged_times_of_a_packet_are_said_and_never_narrow_a_limit(node: str, error_s: int) -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(SECOND)})
    talk(wire, ["node-a", "node-b"], 10, 2003, (20_000, 20_000), 8)
    for packet in (750, 751):
        for row in wire.rows[4 * packet : 4 * packet + 4]:
            if wire.points[row["point"]].node == node:
                row["time_ns"] += error_s * SECOND
    found = clocks(wire.reconstruct(), reference=0)
    (problem, *_) = found.problems
    check(found, wire, START_NS, START_NS + 10 * SECOND)
    if node == "node-b":  # pairs are in the order of node-a's clock, where these packets lie between sound ones
        half = found.uncertainty(np.zeros(2, int), np.ones(2, int), np.array([START_NS + SECOND, START_NS + 9 * SECOND]))
        assert (half < 100_000).all()
        assert "contradict all others and were left out" in problem


def test_times_without_any_order_give_no_narrow_limits() -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(SECOND)})
    talk(wire, ["node-a", "node-b"], 10, 1009, (20_000, 20_000), 9)
    noise = random.Random(9)
    for row in wire.rows:
        row["time_ns"] += noise.randrange(SECOND)
    found = clocks(wire.reconstruct())
    assert any("contradict any even run" in problem for problem in found.problems)
    half = found.uncertainty(np.zeros(1, int), np.ones(1, int), np.array([START_NS + 5 * SECOND]))[0]
    assert half == -1 or half > SECOND // 2


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)))
def test_the_order_of_files_does_not_matter(order: list[int]) -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(SECOND, 30e-6), "node-c": clock(-SECOND)})
    talk(wire, ["node-a", "node-b", "node-c"], 10, 101, (20_000, 90_000), 10)
    assert clocks(wire.reconstruct(order)).nodes == clocks(wire.reconstruct()).nodes


def test_the_reference_is_the_best_connected_node_or_the_one_asked_for() -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(SECOND), "node-c": clock(2 * SECOND)})
    talk(wire, ["node-b", "node-c"], 10, 101, (20_000, 20_000), 11)
    talk(wire, ["node-a", "node-c"], 10, 101, (20_000, 20_000), 12, port=41_000)
    traced = wire.reconstruct()
    assert clocks(traced).reference == 2
    asked = clocks(traced, reference=0)
    assert asked.reference == 0
    assert asked.nodes[0].offset_ns == 0
    assert asked.nodes[2].offset_ns == pytest.approx(2 * SECOND, abs=100_000)


def test_captures_of_one_interface_are_ordered_by_their_replies() -> None:
    """At eth0 both nodes see one TTL: which was first is told by the way back."""
    wire = Wire({"node-a": clock(), "node-b": clock(-3 * SECOND)})
    for number in range(101):
        back = number % 2 == 1
        path = ["node-a", "node-b"][:: -1 if back else 1]
        wire.send(path, START_NS + number * 1_000_000, [30_000], reply=back, only=("eth0",))
    found = clocks(wire.reconstruct())
    assert found.known.all()
    check(found, wire, START_NS, START_NS + 101_000_000)


def test_one_interface_and_one_way_tells_nothing() -> None:
    wire = Wire({"node-a": clock(), "node-b": clock(-3 * SECOND)})
    for number in range(101):
        wire.send(["node-a", "node-b"], START_NS + number * 1_000_000, [30_000], only=("eth0",))
    assert len(crossings(wire.reconstruct())["sender"]) == 0


def test_a_packet_that_comes_back_bounds_both_ways() -> None:
    """A pod on node-a asks node-b's NodePort, which sends the packet back to node-a: one way of packets is a round trip."""
    wire = Wire({"node-a": clock(), "node-b": clock(SECOND, 10e-6)})
    talk(wire, ["node-a", "node-b", "node-a"], 10, 101, (20_000, 20_000), 13, ways="there")
    found = clocks(wire.reconstruct())
    assert found.known.all()
    check(found, wire, START_NS, START_NS + 10 * SECOND)


def test_a_segment_sent_again_makes_no_pair_with_the_first() -> None:
    """Without IP IDs the same segment, lost once between the nodes, is not told from itself: no pair rather than a false one."""
    wire = Wire({"node-a": clock(), "node-b": clock()})
    talk(wire, ["node-a", "node-b"], 1, 23, (20_000, 20_000), 14)
    kept = wire.sent
    wire.send(["node-a", "node-b"], START_NS + SECOND // 2, [20_000], ip_id=0)
    lost = [row for row in wire.rows if row["tsval"] == wire.sent]
    before = len(crossings(wire.reconstruct())["sender"])
    for row in lost:
        if row["point"] // 2 == 0:  # node-a saw it a second time, 200 ms before
            wire.rows.append(row | {"time_ns": row["time_ns"] - SECOND // 5})
    seen = crossings(wire.reconstruct())
    assert kept == 23
    assert len(seen["sender"]) < before
    assert (seen["arrived_ns"] - seen["left_ns"]).max() < SECOND // 5


def test_crossings_are_as_their_schema_says() -> None:
    wire = Wire({"node-a": clock(), "node-b": clock()})
    talk(wire, ["node-a", "node-b"], 1, 23, (20_000, 20_000), 15)
    seen = CROSSINGS.check(crossings(wire.reconstruct()))
    assert (seen["arrived_ns"] >= seen["left_ns"] + 20_000).all()
