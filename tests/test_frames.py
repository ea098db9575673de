"""Tables of requests and connections: as documented, complete, and what the records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import SAMPLES
from framed import found_in, frames_of, many, records_of
from pace import ratio

from analysis import parquet
from analysis.frames import TABLES, frames, from_records, load
from analysis.frames.kinds import HOP_KINDS, hop_kind, is_error
from analysis.latency import SHARES
from analysis.parquet import write_parquet
from tracer.bundle import read_bundle
from tracer.requests import trace_requests
from tracer.trace import trace


def test_columns_are_as_documented(sample: Path) -> None:
    made = frames_of(sample)
    for name, columns in TABLES.items():
        dtypes = {column: str(dtype) for column, dtype in getattr(made, name).dtypes.items()}
        assert dtypes == {column: dtype for column, (dtype, _, _) in columns.items()}, name


@pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES)
def test_units_are_in_names(columns: dict[str, tuple[str, str, str]]) -> None:
    for name, (_, unit, _) in columns.items():
        assert name.endswith("_ns") == (unit == "ns"), name


def test_keys_refer_to_rows(sample: Path) -> None:
    made = frames_of(sample)
    keys = {"request": set(made.requests["id"]), "connection": set(made.connections["id"])}
    for name, columns in TABLES.items():
        for key in keys.keys() & columns.keys():
            assert set(getattr(made, name)[key]) <= keys[key], f"{name}.{key}"
    for ids in (made.requests["id"], made.connections["id"]):
        assert ids.is_unique
    assert set(made.requests["parent"].dropna()) <= keys["request"]


def test_tables_hold_what_the_records_say(sample: Path) -> None:
    made, (connections, requests) = frames_of(sample), records_of(sample)
    assert made.connections["id"].tolist() == [record["id"] for record in connections]
    assert made.requests["id"].tolist() == [record["id"] for record in requests]
    assert len(made.hops) == sum(len(record["hops"]) for record in requests)
    assert len(made.parts) == sum(len(record["latency"]["parts"]) for record in requests)
    assert len(made.connection_hops) == sum(len(record["hops"]) for record in connections)
    for name in ("translations", "losses"):
        assert len(getattr(made, name)) == sum(len(record[name]) for record in connections)
    for row, record in zip(made.requests.astype(object).where(made.requests.notna(), None).to_dict("records"), requests, strict=True):
        latency = record["latency"]
        assert row["start"].value == record["start_ns"]
        assert [row[f"{name}_ns"] for name in ("total", "network", "server", "self", "uncertainty")] == [
            latency[f"{name}_ns"] for name in ("total", "network", "server", "self", "uncertainty")
        ]
        for name in ("parent", "trace", "connection", "protocol", "operation", "status", "host", "unread", "parent_confidence"):
            assert row[name] == record[name], name
        assert row["client_name"] == (record["client"] or {}).get("name")
        assert row["service_name"] == (record["service"] or {}).get("name")
        assert row["ingress_name"] == (record["ingress"] or {}).get("name")
        if record["parent"] is None:
            assert sum(row[f"tree_{share}_ns"] for share in SHARES) == row["total_ns"]
    for row, record in zip(made.connections.itertuples(), connections, strict=True):
        assert row.start.value == record["start_ns"]
        assert (row.original_src if record["original"] else None) == (record["original"] or {}).get("src")


# A client's own port is seldom a declared one; in the samples nothing was lost between nodes, encrypted or sent again.
UNFILLED = {"client_container", "evaluation_ns", "first_missed_at", "tls_ns"}


def test_no_column_of_the_samples_is_empty_everywhere() -> None:
    """A documented column that nothing fills is a lie."""
    made = [frames_of(path) for path in sorted(SAMPLES.iterdir()) if path.is_dir()]
    for name, columns in TABLES.items():
        filled = pd.concat([getattr(each, name) for each in made]).notna().any()
        assert {column for column in columns if not filled[column]} <= UNFILLED, name


def test_one_request_by_hand() -> None:
    """A GET /web of sample iptables: the numbers are tshark's, of frames 319 to 380 of node-a.pcap (µs past 1795411997.94)."""
    made = frames_of(SAMPLES / "iptables")
    (id_,) = made.hops[(made.hops["file"] == "node-a.pcap") & (made.hops["frame"] == 357)]["request"]
    web = made.requests.set_index("id").loc[id_]
    asked, answered = (11_052, 11_157, 11_172), (14_372, 14_413, 14_468)
    expected_us = {
        "total_ns": answered[2] - asked[0], "server_ns": answered[0] - asked[2], "nat_established_ns": asked[1] - asked[0],
        "network_ns": asked[2] - asked[0] + answered[2] - answered[0], "connect_ns": 2_001 - 1_541, "nat_first_ns": 1_784 - 1_541,
    }  # fmt: skip
    stretched = 1e-5  # onto the reference clock: parts per million
    assert {name: web[name] / 1000 for name in expected_us} == pytest.approx(expected_us, rel=stretched)
    assert (web["operation"], web["client_kind"], web["ingress_service"]) == ("GET /web", "external", "demo/web:80")
    hops = made.hops[made.hops["request"] == id_]
    assert hops["kind"].fillna("").tolist() == ["", "nat", "local", "", "local", "nat"]
    assert hops["position"].tolist() == [0, 1, 2, 0, 1, 2]
    assert hops["frame"].tolist() == [357, 358, 359, 378, 379, 380]
    (child,) = made.requests[made.requests["parent"] == id_].itertuples()
    assert web["self_ns"] == web["server_ns"] - child.total_ns
    nat = made.parts[(made.parts["request"] == id_) & (made.parts["kind"] == "nat")].sort_values("start")
    assert nat["mode"].tolist() == ["iptables", "iptables"]
    assert nat["first_packet"].tolist() == [True, False]
    assert (nat["duration_ns"] / 1000).tolist() == pytest.approx([243, 105], rel=stretched)


PLAIN, VXLAN = None, {"kind": "vxlan"}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (("a", "1:1", PLAIN), ("a", "1:1", PLAIN), "local"),
        (("a", "1:1", PLAIN), ("a", "2:1", PLAIN), "nat"),
        (("a", "1:1", PLAIN), ("a", "1:1", VXLAN), "encapsulation"),
        (("a", "1:1", VXLAN), ("a", "1:1", PLAIN), "encapsulation"),
        (("a", "1:1", VXLAN), ("a", "2:1", PLAIN), "nat"),
        (("a", "1:1", VXLAN), ("b", "1:1", VXLAN), "tunnel"),
        (("a", "1:1", VXLAN), ("b", "1:1", PLAIN), "tunnel"),
        (("a", "1:1", PLAIN), ("b", "2:1", PLAIN), "network"),
    ],
)
def test_what_lies_between_two_hops(before: tuple[str, str, Any], after: tuple[str, str, Any], kind: str) -> None:
    one, other = ({"node": node, "src": src, "dst": "9:9", "tunnel": tunnel} for node, src, tunnel in (before, after))
    assert hop_kind(one, other) == kind
    assert kind in HOP_KINDS


@pytest.mark.parametrize(
    ("protocol", "status", "error"),
    [
        ("http", "200", False), ("http", "304", False), ("http", "404", True), ("http2", "503", True), ("http", "reset", True),
        ("grpc", "OK", False), ("grpc", "UNAVAILABLE", True), ("dns", "NOERROR", False), ("dns", "NXDOMAIN", False),
        ("dns", "SERVFAIL", True), ("mysql", "ok", False), ("mysql", "error 1146", True), ("mongodb", "error", True),
        ("amqp", "empty", False),
        ("tcp", "closed", False), ("tcp", "open", False), ("tcp", "refused", True), ("dns", "timeout", True), ("exchange", None, None),
    ],
)  # fmt: skip
def test_which_statuses_are_errors(protocol: str, status: str | None, error: bool | None) -> None:
    assert is_error(protocol, status) is error


@pytest.mark.parametrize(
    ("spans", "together"),
    [([], None), ([(10, 15)], 5), ([(10, 15), (20, 22)], 7), ([(10, 30), (12, 40)], 30), ([(12, 40), (10, 50), (10, 11)], 40)],
)
def test_waits_at_the_same_time_count_once(spans: list[tuple[int, int]], together: int | None) -> None:
    connections, (first, *_) = records_of(SAMPLES / "iptables")
    waits = [{"kind": "retransmission", "node": None, "start_ns": start, "end_ns": end} for start, end in spans]
    made = from_records(connections, [first | {"latency": first["latency"] | {"parts": waits}}]).requests["retransmission_ns"]
    assert made.astype(object).where(made.notna(), None).tolist() == [together]


def test_only_nat_has_a_mode(sample: Path) -> None:
    parts = frames_of(sample).parts
    nat = parts["kind"] == "nat"
    assert parts.loc[~nat, ["mode", "first_packet"]].isna().all(axis=None)
    assert parts.loc[nat, "first_packet"].notna().all()


def test_load_reads_folders_and_files() -> None:
    folder = SAMPLES / "iptables"
    whole = frames_of(folder)
    alone = load(*sorted(folder.glob("*.pcap")), cluster=[folder / "cluster.json.gz"])
    assert alone.requests["server_name"].tolist() == whole.requests["server_name"].tolist()
    assert "no conntrack from node-a, node-b, node-c: translations there are told from packets alone" in alone.not_seen


def test_l4_only_makes_every_connection_one_request() -> None:
    made = load(SAMPLES / "iptables", l4_only=True)
    assert sorted(made.requests["connection"]) == sorted(made.connections["id"])
    assert made.requests["whole"].all()
    assert made.requests["operation"].isna().all()


def test_only_what_was_not_read_is_whole() -> None:
    made = frames_of(SAMPLES / "iptables").requests
    assert set(made["protocol"][made["whole"]]) == {"tcp"}
    assert set(made["protocol"][~made["whole"]]) == {"http", "mysql", "dns"}


def test_parents_below_the_confidence_asked_for_are_null() -> None:
    strict = frames(found_in(SAMPLES / "iptables"), min_confidence=1.01).requests
    assert strict["parent"].isna().all()
    assert strict["parent_confidence"].notna().any()


def test_a_bundle_without_packets_gives_empty_tables(tmp_path: Path) -> None:
    (tmp_path / "node-a.pcap").write_bytes((SAMPLES / "iptables" / "node-a.pcap").read_bytes()[:24])
    made = frames(trace_requests(trace(read_bundle([tmp_path]))))
    for name, columns in TABLES.items():
        frame = getattr(made, name)
        assert len(frame) == 0
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == {each: dtype for each, (dtype, _, _) in columns.items()}
    write_parquet(tmp_path / "tables", [], [])
    assert pd.read_parquet(tmp_path / "tables" / "hops.parquet").empty


def test_half_surrogate_pairs_are_spelled_out(tmp_path: Path) -> None:
    connections, requests = records_of(SAMPLES / "iptables")
    half = "GET /\ud800"
    requests = [record | {"operation": half, "host": half} for record in requests]
    assert set(from_records(connections, requests).requests["operation"]) == {"GET /\\ud800"}
    write_parquet(tmp_path / "tables", connections, requests)


@pytest.mark.parametrize("at_once", [parquet.AT_ONCE, 7])
def test_parquet_has_all_rows_their_units_and_meanings(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(parquet, "AT_ONCE", at_once)
    made, told = frames_of(sample), []
    connections, requests = records_of(sample)
    write_parquet(tmp_path / "tables", connections, requests, lambda *each: told.append(each))
    assert told[-1] == ("tables of requests", len(requests), len(requests))
    assert ("tables of connections", len(connections), len(connections)) in told
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == set(TABLES)
    for name, columns in TABLES.items():
        path = tmp_path / "tables" / f"{name}.parquet"
        for field in pq.read_schema(path):
            _, unit, meaning = columns[field.name]
            assert field.metadata == {b"unit": unit.encode(), b"meaning": meaning.encode()}
        pd.testing.assert_frame_equal(pd.read_parquet(path), getattr(made, name), check_dtype=True)


def test_time_grows_as_requests_do() -> None:
    records = {count: many(SAMPLES / "iptables", count) for count in (300, 3_000)}
    assert len(from_records(*records[3_000]).requests) == 3_000
    assert ratio(lambda: from_records(*records[3_000]), lambda: from_records(*records[300])) < 20
