"""What a comparison concludes, and refuses to: sides whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compared import CONNECT, CONTROL, FAILURES, NAT_FIRST, accounts, failing, lognormal, of, side
from conftest import SAMPLES
from framed import frames_of
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.compare import BY, compare, measured, positions
from analysis.compare.claims import CLOCKS, DIFFERS, PERHAPS, REFUSED, SAME, SMALL, UNSTEADY, VERDICTS
from analysis.compare.confounders import VARIED
from analysis.compare.samples import METRICS, RECORDING, Sample
from analysis.compare.spread import BREAKS, KEEPS, OPEN, Pick, corrected, judge
from tracer.rules import Endpoint, ServicePath

Json = dict[str, Any]
ENDPOINTS = tuple(Endpoint((0, 0xFFFF_0AF4_0000 + each), 80, 1 / 3) for each in (2, 3, 4))
NAMES = ("10.244.0.2:80", "10.244.0.3:80", "10.244.0.4:80")


def pair(a: Any, b: Any, *, seed: int = 0, varied: tuple[str, ...] = ("mode",)) -> Json:
    told: Json = compare([a, b], level=0.95, seed=seed, varied=varied)["comparisons"][0]
    return told


def claim(told: Json, metric: str, kind: str = "typical") -> Json:
    found: Json = next(each for each in told["claims"] if (each["metric"], each["kind"]) == (metric, kind))
    return found


def two(samples_a: dict[Any, Sample], samples_b: dict[Any, Sample], clusters: int = 101) -> tuple[Any, Any]:
    return side("a", of(samples_a, clusters)), side("b", of(samples_b, clusters), "nftables")


@pytest.mark.parametrize("times", [1.2, 1 / 1.2])
def test_a_shift_of_a_fifth_is_found(times: float) -> None:
    """Latencies of 211 client connections that vary by half: 1.2 times as long is found."""
    found = []
    for seed in range(3):
        told = pair(*two({CONNECT: lognormal(211, seed)}, {CONNECT: lognormal(211, 1000 + seed, times=times)}, 211))
        one = claim(told, "connect")
        found.append(one["verdict"] == DIFFERS and one["better"] == ("a" if times > 1 else "b"))
        assert one["ratio"]["low"] < one["ratio"]["estimate"] < one["ratio"]["high"]
    assert all(found)


def test_more_failures_are_found_and_who_has_fewer_is_better() -> None:
    told = pair(*two({FAILURES: failing(211, 1, 0.02)}, {FAILURES: failing(211, 2, 0.2)}, 211))
    found = claim(told, "failures", "share")
    assert (found["verdict"], found["better"]) == (DIFFERS, "a")
    assert 0 < found["difference_share"]["low"] < 0.18 < found["difference_share"]["high"]
    assert told["verdict"] == DIFFERS
    assert told["ranked"]


def test_five_failures_of_one_client_are_one() -> None:
    """Five requests of one connection that fail together against none: as many as 5 of 1,055, but only one of 211."""
    once = failing(211, 1, 0.0)
    values = once.values.copy()
    values[:5] = 1
    told = pair(*two({FAILURES: once}, {FAILURES: Sample(values, once.cluster)}, 211))
    assert claim(told, "failures", "share")["verdict"] == SAME


def test_nothing_differs_from_itself() -> None:
    samples = {CONNECT: lognormal(101, 1), NAT_FIRST: lognormal(101, 2), FAILURES: failing(101, 3, 0.1)}
    told = pair(side("a", of(samples, 101)), side("b", of(samples, 101)))
    assert told["verdict"] == "no difference shown"
    assert {each["p"] for each in told["claims"]} == {1.0}
    assert not told["ranked"]


def test_the_same_seed_gives_the_same_answer_and_sides_can_be_exchanged() -> None:
    a, b = two({CONNECT: lognormal(101, 1)}, {CONNECT: lognormal(101, 2, times=1.4)})
    assert pair(a, b) == pair(a, b)
    forth, back = claim(pair(a, b), "connect"), claim(pair(b, a), "connect")
    assert (forth["better"], back["better"]) == ("a", "b")
    assert forth["ratio"]["estimate"] == pytest.approx(1 / back["ratio"]["estimate"], rel=1e-6)


def test_few_clients_tell_nothing() -> None:
    told = pair(*two({CONNECT: lognormal(11, 1)}, {CONNECT: lognormal(11, 2, times=9)}, 11))
    assert claim(told, "connect")["verdict"] == told["verdict"] == SMALL
    assert "12 client connections" in told["record_instead"][0]


def test_one_client_with_all_requests_is_one() -> None:
    cluster = np.concatenate((np.zeros(991, "i8"), np.arange(1, 23)))
    one = Sample(np.random.default_rng(0).lognormal(10, 0.3, 1013).round(), cluster)
    told = pair(*two({CONNECT: one}, {CONNECT: Sample(one.values * 2, cluster)}, 23))
    assert claim(told, "connect")["verdict"] == SMALL


FACTS: list[tuple[str, Json]] = [
    ("kernel", {"kernels": ("6.18.0",)}),
    ("machine", {"machines": ("amd64, 2 cpu, virtual",)}),
    ("nodes", {"nodes": ("node-a", "node-c")}),
    ("captured nodes", {"captured": ("node-a",)}),
    ("services", {"services": {"shop/web": 5, "shop/api": 2}}),
    ("completeness", {"dropped": 101}),
    ("what was recorded", {"selections": ("payload_bytes 128, ports [80]",)}),
    ("snaplen", {"truncated": 997}),
]


@pytest.mark.parametrize(("fact", "facts"), FACTS, ids=[fact for fact, _ in FACTS])
def test_sides_that_differ_in_more_are_not_ranked(fact: str, facts: Json) -> None:
    samples = {CONNECT: lognormal(101, 1)}, {CONNECT: lognormal(101, 2, times=3)}
    recorded = {"selections": ("payload_bytes 1024",)}
    a, b = side("a", of(samples[0], 101), **recorded), side("b", of(samples[1], 101), "nftables", **recorded | facts)
    told = pair(a, b)
    assert [each["fact"] for each in told["confounders"]] == [fact]
    assert (told["verdict"], told["ranked"], claim(told, "connect")["better"]) == (REFUSED, False, None)
    assert claim(told, "connect")["ratio"]["estimate"] == pytest.approx(3, rel=0.2)  # it is shown all the same
    assert told["record_instead"]
    if fact in VARIED:
        assert pair(a, b, varied=("mode", fact))["verdict"] == DIFFERS
        assert "were changed together" in pair(a, b, varied=("mode", fact))["cautions"][0]


@pytest.mark.parametrize(
    ("fact", "facts"), [each for each in FACTS if each[0] in VARIED], ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_is_unknown_is_said_and_no_reason_to_refuse(fact: str, facts: Json) -> None:
    samples = {CONNECT: lognormal(101, 1)}, {CONNECT: lognormal(101, 2, times=3)}
    unknown = {name: type(value)() for name, value in facts.items()}
    told = pair(side("a", of(samples[0], 101)), side("b", of(samples[1], 101), "nftables", **unknown))
    assert [each["fact"] for each in told["unchecked"]] == [fact]
    assert told["verdict"] == DIFFERS


def test_the_mode_is_a_fact_like_others_where_it_was_not_to_change() -> None:
    a, b = two({CONNECT: lognormal(101, 1)}, {CONNECT: lognormal(101, 2, times=3)})
    assert [each["fact"] for each in pair(a, b, varied=())["confounders"]] == ["mode"]


def test_another_mix_of_requests_is_no_comparison() -> None:
    asked = ("shop/web http GET /", "shop/api http GET /items/#")
    a = side("a", of({CONNECT: lognormal(101, 1)}, 101, asked))
    b = side("b", of({CONNECT: lognormal(101, 2, times=3)}, 101, (*asked, asked[1], asked[1])))
    told = pair(a, b)
    assert [each["fact"] for each in told["confounders"]] == ["request mix"]
    assert "shop/api http GET /items/#" in told["confounders"][0]["b"]
    assert told["verdict"] == REFUSED


@pytest.mark.parametrize(("times", "verdict"), [(2.0, REFUSED), (6.0, DIFFERS), (1.0, SAME)])
def test_what_the_machine_explains_is_not_the_modes(times: float, verdict: str) -> None:
    """Requests without kube-proxy take twice as long: NAT must take much more than twice as long to be called slower."""
    samples = {NAT_FIRST: lognormal(101, 1), CONTROL: lognormal(101, 3)}, {
        NAT_FIRST: lognormal(101, 2, times=times), CONTROL: lognormal(101, 4, times=2),
    }  # fmt: skip
    told = pair(*two(*samples))
    assert claim(told, "nat-first")["verdict"] == verdict
    assert claim(told, "request")["verdict"] == REFUSED
    assert any("pods without a Service" in each for each in told["cautions"])


def test_less_than_the_clocks_leave_open_is_not_separable() -> None:
    a, b = lognormal(101, 1), lognormal(101, 2, times=1.5)
    for apart, verdict in ((1e6, CLOCKS), (10.0, DIFFERS)):
        samples = ({("hop", "tunnel"): Sample(each.values, each.cluster, apart)} for each in (a, b))
        assert claim(pair(*two(*samples)), "hop")["verdict"] == verdict


def test_halves_that_contradict_one_another_are_not_steady() -> None:
    """Slower by far in the first half of the recording, and a little faster in the second."""
    a, b = lognormal(101, 1), lognormal(101, 2)
    early = of({}, 101).start_ns < 50_000_000
    values = b.values * np.where(early[b.cluster], 20, 0.7)
    told = pair(*two({CONNECT: a}, {CONNECT: Sample(values, b.cluster)}))
    assert claim(told, "connect")["verdict"] == UNSTEADY
    assert any("in turns" in each for each in told["record_instead"])


def test_a_side_that_changes_with_time_is_told() -> None:
    made, later = lognormal(101, 1), of({}, 101).start_ns >= 50_000_000
    changing = Sample(made.values * np.where(later[made.cluster], 3, 1), made.cluster)
    told = compare(two({CONNECT: lognormal(101, 2)}, {CONNECT: changing}), level=0.95, seed=0)
    assert [(each["drifted_questions"] > 0, each["halved_questions"] > 0) for each in told["sides"]] == [(False, True), (True, True)]
    assert any(each.startswith("b differs from itself") for each in told["comparisons"][0]["cautions"])


def test_what_holds_of_two_sides_need_not_hold_of_four() -> None:
    """The same pair of sides beside others: what is asked in all is what chance has had its hand in."""
    a, b = side("a", of({CONNECT: lognormal(101, 1)}, 101)), side("b", of({CONNECT: lognormal(101, 2, times=1.12)}, 101))
    others = [side(f"c{seed}", of({CONNECT: lognormal(101, seed)}, 101)) for seed in (3, 4)]
    few = compare([side("few", of({CONNECT: lognormal(11, 1)}, 11)), a], level=0.95, seed=0)["comparisons"]
    assert few[0]["questions_together"] == 0
    two, four = (compare([a, b, *more], level=0.95, seed=0)["comparisons"] for more in ([], others))
    (once, *_), (among, *_) = (found[0]["claims"] for found in (two, four))
    assert 0.05 / 3 < once["p"] <= 0.05
    assert (once["verdict"], among["verdict"]) == (DIFFERS, PERHAPS)
    assert among["p"] == once["p"]
    assert among["p_together"] == pytest.approx(3 * once["p_together"])
    assert [each["questions_together"] for each in (*two, *four)] == [2, 6, 6, 6]


def test_a_side_that_cannot_be_asked_costs_the_others_nothing() -> None:
    a, b = (side(name, of({CONNECT: lognormal(101, seed)}, 101)) for seed, name in enumerate("ab"))
    few = side("few", of({CONNECT: lognormal(11, 5)}, 11))
    assert compare([a, b, few], level=0.95, seed=0)["comparisons"][0]["claims"] == pair(a, b)["claims"]


@pytest.mark.parametrize(("count", "cost_ns", "verdict"), [(13, 600, DIFFERS), (13, 400, SAME), (11, 600, SMALL)])
def test_what_recording_costs_is_judged_by_recordings(count: int, cost_ns: int, verdict: str) -> None:
    samples = {CONNECT: lognormal(101, 1)}
    a = side("a", of(samples, 101), accounts=accounts(13, 1, 400))
    b = side("b", of(samples, 101), "nftables", accounts=accounts(count, 2, cost_ns))
    told = pair(a, b)
    found = claim(told, "recording")
    assert (found["verdict"], found["n"]) == (verdict, [13, count])
    assert any("12 recordings of a node" in each for each in told["record_instead"]) == (verdict == SMALL)
    if verdict == DIFFERS:
        assert found["better"] == "a"
        assert found["ratio"]["low"] < 1.5 < found["ratio"]["high"]
        elsewhere = side("b", of(samples, 101), "nftables", accounts(count, 2, cost_ns), kernels=("6.18.0",))
        assert claim(pair(a, elsewhere), "recording")["verdict"] == REFUSED


def test_less_than_a_tick_is_no_difference() -> None:
    """Nearly all equal, as a coarse clock has it."""
    a, b = (Sample(np.full(997, 4000.0), np.arange(997)) for _ in "ab")
    b.values[:101] = 5000
    found = claim(pair(*two({CONNECT: a}, {CONNECT: b}, 997)), "connect")
    assert (found["verdict"], found["p"] < 0.05, found["why"]) == (SAME, True, "less than the clock's ticks")


SCALES = st.tuples(st.integers(13, 60), st.integers(13, 60), st.floats(0.3, 3), st.floats(0, 0.5))


@settings(max_examples=11, deadline=None)
@given(made=SCALES)
def test_whatever_comes_out_is_consistent(made: tuple[int, int, float, float]) -> None:
    few, many, times, share = made
    a = side("a", of({CONNECT: lognormal(few, 1), FAILURES: failing(few, 2, share)}, few))
    b = side("b", of({CONNECT: lognormal(many, 3, times=times), FAILURES: failing(many, 4, share)}, many), "ipvs")
    told = pair(a, b)
    for each in told["claims"]:
        assert each["verdict"] in VERDICTS
        if each["p"] is None:
            continue
        assert each["p"] <= each["p_together"] <= 1
        interval = each.get("difference_ns") or each["difference_share"]
        assert interval["low"] <= interval["estimate"] <= interval["high"]
        if each["better"]:
            assert (interval["low"] > 0) == (each["better"] == "a")
            assert (interval["high"] < 0) == (each["better"] == "b")
            assert each["p"] <= 0.05


def pick(place: str, client: str, chosen: int, time_s: float, *, scheduler: str | None = None, affinity: bool = False) -> Pick:
    path = ServicePath("shop/web:http", (), 3, ENDPOINTS, affinity, False, scheduler=scheduler)
    return Pick("shop/web", ("node-a", place), client, NAMES[chosen], int(time_s * 1e9), path)


EVEN, ONE = [0, 1, 2] * 11, [0] * 25 + [1, 2] * 4
BALANCES = {
    "random as it should be": ([0, 0, 0, 1, 2, 0, 2, 2, 1, 0, 1, 2], {}, KEEPS),
    "random that prefers one": (ONE, {}, BREAKS),
    "turns": (EVEN, {"scheduler": "rr"}, KEEPS),
    "turns that prefer one": (ONE, {"scheduler": "rr"}, BREAKS),
    "turns, nearly": ([*EVEN * 5, 0, 0], {"scheduler": "rr"}, KEEPS),
    "too few": ([0, 1, 2, 0], {"scheduler": "rr"}, OPEN),
    "by load": (EVEN, {"scheduler": "lc"}, OPEN),
    "one client, one endpoint": ([1] * 13, {"affinity": True}, KEEPS),
    "one client, two endpoints": ([1] * 12 + [2], {"affinity": True}, BREAKS),
    "one client, once": ([1], {"affinity": True}, OPEN),
}


@pytest.mark.parametrize(("chosen", "how", "verdict"), BALANCES.values(), ids=BALANCES)
def test_balance_is_what_the_mode_says(chosen: list[int], how: Json, verdict: str) -> None:
    told = judge("shop/web", [pick("10.96.0.1:80", "10.244.1.9", each, at, **how) for at, each in enumerate(chosen)], 10_800, 0)
    assert told.verdict == verdict, told.why
    assert sum(told.counts.values()) == told.n == len(chosen)


def test_affinity_is_kept_per_node_and_client_and_until_its_timeout() -> None:
    def affine(*rows: tuple[str, str, int, float]) -> tuple[int, int]:
        told = judge("shop/web", [pick(*row, affinity=True) for row in rows], 100, 0)
        return told.kept, told.breaks

    assert affine(("v:80", "c1", 0, 0), ("v:80", "c2", 1, 1), ("v:80", "c1", 0, 2)) == (1, 0)
    assert affine(("v:80", "c1", 0, 0), ("v:80", "c1", 1, 101)) == (0, 0)  # it ran out
    assert affine(("v:80", "c1", 0, 0), ("v:80", "c1", 1, 99)) == (0, 1)


def test_turns_are_taken_per_virtual_server() -> None:
    """Each address of a Service has its own turn: two that begin with the same endpoint are even each, not together."""
    rows = [pick(place, "c", each % 3, each, scheduler="rr") for place in ("v:80", "w:80", "x:80", "y:80") for each in range(4)]
    told = judge("shop/web", rows, 1, 0)
    assert told.counts[NAMES[0]] == 8
    assert told.verdict == KEEPS


def test_one_odd_service_of_many_is_chance() -> None:
    rows = [0] * 12 + [1] * 4 + [2] * 3
    odd = judge("odd", [pick("v:80", "c", each, at) for at, each in enumerate(rows)], 1, 0)
    assert odd.verdict == BREAKS
    others = [judge(f"s{n}", [pick("v:80", "c", each, at) for at, each in enumerate(EVEN)], 1, 0) for n in range(11)]
    assert [each.verdict for each in corrected([[odd, *others]], 0.95)[0] if each.service == "odd"] == [OPEN]
    assert corrected([[odd]], 0.95)[0][0].verdict == BREAKS
    assert corrected([[odd], others], 0.95)[0][0].verdict == OPEN  # another side's Services are Services, too


@pytest.mark.parametrize("name", ["iptables", "failures"])
def test_samples_are_what_the_tables_hold(name: str) -> None:
    frames = frames_of(SAMPLES / name)
    found = measured(frames, BY)
    parts, requests = frames.parts[(frames.parts["kind"] == "nat") & (frames.parts["duration_ns"] > 0)], frames.requests
    first = found.samples["nat-first", ""]
    assert sorted(first.values.tolist()) == sorted(parts[parts["first_packet"]]["duration_ns"].tolist())
    assert len(found.samples["failures", ""].values) == requests["error"].notna().sum()
    assert len(found.samples["connect", ""].values) == frames.connections["handshake_ns"].notna().sum()
    assert sum(len(each) for each in found.mix.values()) == requests["parent"].isna().sum()
    roots = requests.drop_duplicates("trace")
    assert found.clusters == roots["connection"].nunique()
    for (metric, _), sample in found.samples.items():
        assert metric in METRICS
        assert len(sample.values) == len(sample.cluster)
        assert len(sample.values) == 0 or 0 <= sample.cluster.min() <= sample.cluster.max() < found.clusters
    walked = [rules for rules, _ in positions(frames)]
    assert set(walked) <= set(frames.translations["rules_walked"].dropna().tolist())
    assert walked


def test_latency_is_grouped_by_what_is_asked_for() -> None:
    frames = frames_of(SAMPLES / "iptables")
    always = {name for name, metric in METRICS.items() if metric.by is None} - {RECORDING}
    for by in BY:
        asked = {name for name, metric in METRICS.items() if metric.by == by}
        assert {metric for metric, _ in measured(frames, (by,)).samples} == always | asked
