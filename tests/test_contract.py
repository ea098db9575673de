"""The output contract on every sample: JSON Schema, what null means, canonical addresses, ids, order; the schema of every table."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any

import jsonschema
import numpy as np

from analysis.contract import SCHEMA
from analysis.summary import summarise
from probes import schema as captured
from probes.schema import LEDGER, OBSERVATIONS, Schema, size
from tracer import schema as reconstructed
from tracer.evidence import EVIDENCE
from tracer.status import STATUSES
from tracer.trace import Trace

Record = dict[str, Any]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_records_validate(records: list[Record]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    problems = [f"{record['id']}: {error.json_path}: {error.message}" for record in records for error in validator.iter_errors(record)]
    assert problems == []
    assert records


def test_the_schema_refuses_what_is_no_record(records: list[Record]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    record = records[0]
    for wrong in (
        {name: value for name, value in record.items() if name != "original"}, record | {"extra": 1}, record | {"status": "fine"},
        record | {"start_ns": 1.5}, record | {"confidence": 1.1}, record | {"original": "a > b"}, record | {"client": {"address": "a"}},
    ):  # fmt: skip
        assert not validator.is_valid(wrong)


def test_ids_are_unique_and_in_order_of_start(records: list[Record]) -> None:
    assert [record["id"] for record in records] == [f"c{number}" for number in range(1, len(records) + 1)]
    assert len({record["trace"] for record in records}) == len(records)


def endpoints(record: Record) -> set[str]:
    places = [record["original"], record["translated"], *record["hops"], *record["candidates"]]
    found = {place[side] for place in places if place for side in ("src", "dst")}
    found |= {record[side]["address"] for side in ("client", "server") if record[side]}
    return found | {end for step in record["translations"] for side in ("before", "after") for end in step[side].split(" > ")}


def test_addresses_are_canonical(records: list[Record]) -> None:
    """RFC 5952 for IPv6, in brackets; dotted quads for IPv4, never mapped."""
    for end in set().union(*(endpoints(record) for record in records)):
        address, _, port = end.rpartition(":")
        assert str(int(port)) == port
        assert 0 <= int(port) <= 65535
        bare = address.removeprefix("[").removesuffix("]")
        assert (bare != address) == (":" in bare)
        parsed = ipaddress.ip_address(bare)
        assert str(parsed) == bare
        assert not isinstance(parsed, ipaddress.IPv6Address) or parsed.ipv4_mapped is None


def test_tunnel_ends_are_canonical(records: list[Record]) -> None:
    tunnels = [hop["tunnel"] for record in records for hop in record["hops"] if hop["tunnel"]]
    assert tunnels
    for tunnel in tunnels:
        assert all(str(ipaddress.ip_address(tunnel[side])) == tunnel[side] for side in ("src", "dst"))


def test_ends_agree_with_tuples(records: list[Record]) -> None:
    for record in records:
        if record["original"]:
            assert record["client"]["address"] == record["original"]["src"]
        if record["translated"]:
            assert record["server"]["address"] == record["translated"]["dst"]
        for which in ("original", "translated"):
            assert record[which] is None or record[which]["proto"] == record["protocol"]


def test_translations_are_a_chain_from_original_to_translated(records: list[Record]) -> None:
    for record in records:
        steps = record["translations"]
        assert all(before["after"] == after["before"] for before, after in pairwise(steps))
        assert all(step["kinds"] and step["before"] != step["after"] for step in steps)
        if record["original"] and record["translated"]:
            ends = [f"{record[which]['src']} > {record[which]['dst']}" for which in ("original", "translated")]
            assert (ends == [steps[0]["before"], steps[-1]["after"]]) if steps else (ends[0] == ends[1])


def test_hops_are_in_path_order(records: list[Record]) -> None:
    for record in records:
        paths = [hop["path"] for hop in record["hops"]]
        assert paths == sorted(paths, key=("request", "reply").index)
        for way in ("request", "reply"):
            hops = [hop for hop in record["hops"] if hop["path"] == way]
            assert len({(hop["file"], hop["frame"], hop["src"], hop["tunnel"] is None) for hop in hops}) == len(hops)
            for before, after in pairwise(hops):
                assert (after["latency_ns"] is None) == (before["node"] != after["node"])
                assert after["latency_ns"] is None or after["latency_ns"] == after["time_ns"] - before["time_ns"] >= 0
            assert not hops or hops[0]["latency_ns"] is None


def test_times_contain_each_other(records: list[Record]) -> None:
    for record in records:
        took = record["end_ns"] - record["start_ns"]
        assert took >= 0
        assert record["latency"]["total_ns"] == (took or None)
        assert record["handshake_ns"] is None or 0 < record["handshake_ns"] <= took


def test_what_is_unknown_is_null_and_says_why(records: list[Record]) -> None:
    for record in records:
        if record["original"] is None:
            assert record["problems"]
            assert record["service"] is None
        for step in record["translations"]:
            assert step["evidence"]
        assert set(record["evidence"]) <= {name for name, _ in EVIDENCE.values()}
        assert record["last_seen_at"] is None or record["packets"]["reply"] == 0


def schemas(*modules: Any) -> dict[str, Schema]:
    return {each.name: each for module in modules for each in vars(module).values() if isinstance(each, Schema)}


def test_every_table_is_as_its_schema_says(traced: Trace) -> None:
    known, tables = schemas(reconstructed), traced.tables
    for name in ("tuples", "legs", "entries", "connections", "translations", "hops", "losses"):
        known[name].check(getattr(tables, name))
    OBSERVATIONS.check(tables.observations)
    for ledger in traced.bundle.ledgers.values():
        LEDGER.check(ledger)


def test_every_column_is_explained_and_units_are_in_names() -> None:
    for schema in schemas(captured, reconstructed).values():
        assert len({column.name for column in schema.columns}) == len(schema.columns)
        for column in schema.columns:
            assert column.name.endswith("_ns") == column.unit.startswith("ns"), f"{schema.name}.{column.name}"
            assert column.meaning or schema is LEDGER, f"{schema.name}.{column.name}"


def test_rows_refer_to_rows(traced: Trace) -> None:
    tables = traced.tables
    for table in (tables.translations, tables.hops, tables.losses):
        assert not size(table) or 0 <= table["connection"].min() <= table["connection"].max() < size(tables.connections)
        assert np.all(np.diff(table["connection"]) >= 0)
    assert np.all(np.diff(tables.hops["row"]) != 0)
    assert tables.hops["row"].max() < size(tables.observations)
    assert set(tables.connections["status"].tolist()) <= set(range(len(STATUSES)))


def test_summary_counts_add_up(traced: Trace, records: list[Record]) -> None:
    summary = summarise(traced)
    assert sum(summary["connections"]["by_status"].values()) == summary["connections"]["total"] == len(records)
    assert sum(summary["connections"]["by_protocol"].values()) == len(records)
    assert summary["first_ns"] <= min(record["start_ns"] for record in records)
    assert summary["last_ns"] >= max(record["end_ns"] for record in records)
    assert summary["nodes_not_captured"] == []
