"""What can be asked of the tables: against numbers computed by hand, on samples and on recorded captures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SAMPLES
from framed import frames_of, many, records_of
from pace import ratio

from analysis.frames import TABLES, Frames, errors, from_records, latency_by, load, shares, slowest
from analysis.frames.questions import MEASURES
from analysis.frames.tables import series
from analysis.latency import SHARES
from analysis.statistics import percentiles

IPTABLES = SAMPLES / "iptables"
FAILURES = SAMPLES / "failures"


def made(**rows: list[dict[str, Any]]) -> Frames:
    """Frames with these rows, and null wherever a row says nothing (times: the epoch)."""
    frames = {}
    for name, columns in TABLES.items():
        given = rows.get(name, [])
        empty = {column: 0 if dtype.startswith("datetime") else None for column, (dtype, _, _) in columns.items()}
        frames[name] = pd.DataFrame(
            {column: series([(empty | row)[column] for row in given], dtype) for column, (dtype, _, _) in columns.items()}
        )
    return Frames(**frames)


def hop(kind: str | None, latency_ns: int | None, uncertainty_ns: int = 10) -> dict[str, Any]:
    separable = None if latency_ns is None else latency_ns > uncertainty_ns
    return {"request": "r1", "kind": kind, "latency_ns": latency_ns, "uncertainty_ns": uncertainty_ns, "separable": separable}


def request(total_ns: int, **more: Any) -> dict[str, Any]:
    return {"id": f"r{total_ns}", "total_ns": total_ns, "uncertainty_ns": 10, "whole": False, "error": False, "status": "200"} | more


def test_what_cannot_be_told_from_zero_is_counted_and_not_averaged() -> None:
    hops = [hop(None, None), hop("nat", 100), hop("nat", 300), hop("nat", 9), hop("nat", None), hop("network", 5, 7), hop("nat", 200, 50)]
    found = latency_by(made(hops=hops), "hop kind").set_index("kind")
    assert found.loc["nat", ["n", "not_separable", "unknown", "p50_ns", "p90_ns", "uncertainty_ns"]].tolist() == [3, 1, 1, 200, 280, 50]
    assert found.loc["network", ["n", "not_separable", "unknown"]].tolist() == [0, 1, 0]
    assert found.loc["network", ["p50_ns", "p50_low_ns", "uncertainty_ns"]].isna().all()
    assert "percentiles are too high: 1 of 4 are smaller than their uncertainty" in found.loc["nat", "note"]


def test_too_few_values_have_no_interval_and_it_is_said() -> None:
    (row,) = latency_by(made(hops=[hop("nat", 100 + n) for n in range(72)]), "hop kind").itertuples()
    assert (row.p50_ns, row.p90_ns) == (round(135.5), round(163.9))
    assert row.p50_low_ns < row.p50_ns < row.p50_high_ns
    assert row.p90_low_ns < row.p90_ns < row.p90_high_ns
    assert pd.isna([row.p95_low_ns, row.p95_high_ns, row.p99_low_ns, row.p99_high_ns]).all()
    assert row.note == "too few for intervals: p95 takes 144, p99 takes 736"


def test_enough_values_have_intervals_and_no_note() -> None:
    values = np.random.default_rng(2).lognormal(12, 1, 1009).astype("i8")
    frames = made(hops=[hop("nat", int(value)) for value in values])
    (row,) = latency_by(frames, "hop kind").itertuples()
    assert pd.isna(row.note)
    exact = percentiles(values, (0.5, 0.9, 0.95, 0.99))
    assert [row.p50_ns, row.p90_low_ns, row.p95_high_ns, row.p99_ns] == [round(each) for each in exact[[0, 1, 2, 3], [0, 1, 2, 0]]]
    pd.testing.assert_frame_equal(latency_by(frames, "hop kind"), latency_by(frames, "hop kind"))


def test_groups_are_timed_apart_and_null_is_one() -> None:
    names = (("shop", "web"), ("shop", "api"), (None, None))
    frames = made(requests=[request(n, service_namespace=names[n % 3][0], service_name=names[n % 3][1]) for n in range(100, 400)])
    found = latency_by(frames, "service")
    assert found[["service_namespace", "service_name"]].fillna("").values.tolist() == [["shop", "api"], ["shop", "web"], ["", ""]]
    assert found["n"].tolist() == [100, 100, 100]
    middle = [float(np.median([n for n in range(100, 400) if n % 3 == which])) for which in (1, 0, 2)]
    assert found["p50_ns"].tolist() == [round(each) for each in middle]


def test_whole_connections_are_timed_only_where_they_failed() -> None:
    rows = [request(10**9, whole=True, status="closed"), request(500, whole=True, status="timeout"), request(70), request(9)]
    frames = made(requests=rows)
    assert latency_by(frames, "operation")[["n", "not_separable", "unknown"]].values.tolist() == [[2, 1, 1]]
    found = slowest(frames, 5)
    assert found["total_ns"].tolist() == [500, 70]
    assert found.attrs == {"not_separable": 1, "unknown": 1}


@pytest.mark.parametrize("by", MEASURES)
def test_every_row_is_counted_once(by: str, sample: Path) -> None:
    frames = frames_of(sample)
    found = latency_by(frames, by)
    assert found[["n", "not_separable", "unknown"]].to_numpy().sum() == len(MEASURES[by].rows(frames))
    assert not found.duplicated(list(MEASURES[by].keys)).any()
    ranked = found.dropna(subset="p50_ns")
    assert (ranked[["p50_ns", "p90_ns", "p95_ns", "p99_ns"]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


def test_percentiles_of_a_sample_are_those_of_its_records() -> None:
    _, requests = records_of(IPTABLES)
    found = latency_by(frames_of(IPTABLES), "operation").set_index("operation")
    times = [record["latency"]["total_ns"] for record in requests if record["operation"] == "GET /"]
    assert found.loc["GET /", "p50_ns"] == round(np.median(times))
    modes = latency_by(frames_of(IPTABLES), "kube-proxy mode")
    assert modes[["mode", "first_packet"]].values.tolist() == [["iptables", False], ["iptables", True]]
    assert modes["p50_ns"].is_monotonic_increasing  # the first packet walks the rules


def test_slowest_are_the_slowest() -> None:
    _, requests = records_of(IPTABLES)
    times = sorted((record["latency"]["total_ns"] for record in requests if record["protocol"] != "tcp"), reverse=True)
    found = slowest(frames_of(IPTABLES), 7)
    assert found["total_ns"].tolist() == times[:7]
    assert list(found.columns) == list(TABLES["requests"])
    assert found.attrs == {"not_separable": 0, "unknown": 3}


@pytest.mark.parametrize(("of", "column"), [("hops", "latency_ns"), ("parts", "duration_ns")])
def test_what_is_not_separable_is_never_ranked(of: str, column: str, sample: Path) -> None:
    frames = frames_of(sample)
    found = slowest(frames, 1_000_000, of)
    assert found["separable"].all()
    assert found[column].is_monotonic_decreasing
    left_out = (~getattr(frames, of)["separable"].fillna(True)).sum()
    assert found.attrs["not_separable"] == left_out


def test_errors_by_hand() -> None:
    rows = [request(n + 20, operation="GET /", service_name="web", protocol="http") for n in range(7)]
    rows += [request(n + 50, operation="GET /", service_name="web", protocol="http", status="503", error=True) for n in range(3)]
    rows += [request(90, protocol="tcp", status="refused", error=True), request(91, protocol="grpc", status=None, error=None)]
    found = errors(made(requests=rows))
    assert found[["service_name", "operation", "status", "n", "of"]].fillna("").values.tolist() == [
        ["web", "GET /", "503", 3, 10],
        ["", "", "refused", 1, 1],
    ]
    assert found["share"].tolist() == pytest.approx([0.3, 1.0])
    # Wilson by hand: z = 1.95996, (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert found[["share_low", "share_high"]].values.tolist() == [
        pytest.approx([0.10779, 0.60322], abs=1e-5),
        [pytest.approx(0.20654, abs=1e-5), 1],
    ]


def test_errors_of_the_failures_sample_are_its_failed_records() -> None:
    _, requests = records_of(FAILURES)
    found = errors(frames_of(FAILURES))
    failed = Counter(record["status"] for record in requests if record["status"] in ("refused", "timeout", "reset", "502", "503", "504"))
    assert found.groupby("status")["n"].sum().to_dict() == dict(failed)
    assert ((found["share_low"] <= found["share"]) & (found["share"] <= found["share_high"])).all()


def test_shares_add_up_to_all_time_of_roots(sample: Path) -> None:
    _, requests = records_of(sample)
    found = shares(frames_of(sample))
    timed = [each for each in requests if each["parent"] is None and (each["protocol"] not in ("tcp", "udp", "icmp", "icmpv6", "sctp")
             or each["status"] in ("timeout", "refused"))]  # fmt: skip
    assert found["spent"].tolist() == list(SHARES)
    assert found["total_ns"].sum() == sum(each["latency"]["total_ns"] for each in timed)
    assert found["share"].sum() == pytest.approx(1)
    assert found.attrs["unknown"] + len(timed) == sum(each["parent"] is None for each in requests)


@pytest.mark.parametrize("ask", [*(lambda frames, by=by: latency_by(frames, by) for by in MEASURES), slowest, errors, shares])
def test_nothing_gives_nothing(ask: Any) -> None:
    full, empty = ask(frames_of(FAILURES)), ask(made())
    assert empty["share"].isna().all() if "spent" in empty else len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_what_cannot_be_asked_is_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match="'weather': not one of service, operation, node pair, hop kind, kube-proxy mode"):
        latency_by(made(), "weather")
    with pytest.raises(ValueError, match="not one of requests, hops, parts"):
        slowest(made(), of="losses")


def test_questions_change_nothing() -> None:
    frames = frames_of(FAILURES)
    before = {name: getattr(frames, name).copy() for name in TABLES}
    for by in MEASURES:
        latency_by(frames, by)
    slowest(frames), errors(frames), shares(frames)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(getattr(frames, name), frame)


def test_time_of_questions_grows_as_requests_do() -> None:
    frames = {count: from_records(*many(IPTABLES, count)) for count in (300, 3_000)}

    def ask(count: int) -> None:
        for by in MEASURES:
            latency_by(frames[count], by)
        slowest(frames[count]), slowest(frames[count], of="hops"), errors(frames[count]), shares(frames[count])

    assert ratio(lambda: ask(3_000), lambda: ask(300)) < 20


def test_recorded_captures_answer(capture: Path) -> None:
    """Every capture can be asked everything; where clocks differ, more is left out, never ranked."""
    frames = load(capture)
    for by in MEASURES:
        found = latency_by(frames, by)
        assert found[["n", "not_separable", "unknown"]].to_numpy().sum() == len(MEASURES[by].rows(frames))
    hops = frames.hops.dropna(subset="latency_ns")
    assert slowest(frames, len(hops), "hops").attrs["not_separable"] == (~hops["separable"]).sum()
    assert shares(frames)["share"].sum() == pytest.approx(1)
    assert errors(frames)["n"].sum() == frames.requests["error"].sum()
