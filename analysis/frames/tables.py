"""Records as DataFrames: a bundle's, a trace's, or any records that follow docs/output.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.frames.columns import TABLES, TIME, Columns
from analysis.frames.rows import connection_row, hop_rows, loss_rows, part_rows, request_row, translation_rows
from analysis.records import CONFIDENT, Record
from analysis.requests import RequestRecorder
from analysis.summary import not_seen, summarise
from tracer.bundle import read_bundle
from tracer.requests import RequestTrace, trace_requests, without_requests
from tracer.trace import trace

ByName = dict[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Frames:
    """One DataFrame per entry of TABLES. `requests.id` and `connections.id` are what `request` and `connection` elsewhere refer to.

    `not_seen` says in words what is missing from them, most important first.
    """

    requests: pd.DataFrame
    hops: pd.DataFrame
    parts: pd.DataFrame
    connections: pd.DataFrame
    connection_hops: pd.DataFrame
    translations: pd.DataFrame
    losses: pd.DataFrame
    not_seen: tuple[str, ...] = ()


def load(
    *paths: str | Path,
    cluster: Sequence[str | Path] = (),
    l4_only: bool = False,
    min_confidence: float = CONFIDENT,
    keys: str | Path | None = None,
) -> Frames:
    """Trace a bundle (folders, or files by themselves) into DataFrames. BundleError where there is no capture.

    `cluster` is metadata besides the bundle's. With `l4_only` no payload is read, and every connection is one request. Parents less
    likely than `min_confidence` are left null. `keys` is a TLS key log file (NSS format).
    """
    traced = trace(read_bundle([Path(path) for path in paths], [Path(path) for path in cluster]))
    found = trace_requests(traced, wanted=without_requests(traced) if l4_only else None, keys=None if keys is None else Path(keys))
    return frames(found, min_confidence)


def frames(found: RequestTrace, min_confidence: float = CONFIDENT) -> Frames:
    """The DataFrames of a trace and its requests."""
    recorder = RequestRecorder(found, min_confidence)
    connections = list(recorder.connections)
    problem = found.dissection.problem
    missing = not_seen(summarise(found.trace)) + ([] if problem is None else [problem])
    return from_records(connections, list(recorder), missing)


def from_records(connections: Sequence[Record], requests: Sequence[Record], missing: Iterable[str] = ()) -> Frames:
    """The DataFrames of records: what `Recorder` and `RequestRecorder` give of one trace."""
    carried_by = {record["id"]: record["protocol"] for record in connections}
    return Frames(**of_requests(requests, carried_by), **of_connections(connections), not_seen=tuple(missing))


def of_requests(records: Sequence[Record], carried_by: Mapping[str, str]) -> ByName:
    """The tables that are about requests, by name; `carried_by` is the protocol of each connection, by id."""
    rows = {
        "requests": (request_row(record, whole=record["protocol"] == carried_by[record["connection"]]) for record in records),
        "hops": (row for record in records for row in hop_rows(record)),
        "parts": (row for record in records for row in part_rows(record)),
    }
    return {name: _frame(TABLES[name], each) for name, each in rows.items()}


def of_connections(records: Sequence[Record]) -> ByName:
    """The tables that are about connections, by name."""
    rows = {
        "connections": map(connection_row, records),
        "connection_hops": (row for record in records for row in hop_rows(record)),
        "translations": (row for record in records for row in translation_rows(record)),
        "losses": (row for record in records for row in loss_rows(record)),
    }
    return {name: _frame(TABLES[name], each) for name, each in rows.items()}


def _frame(columns: Columns, rows: Iterable[Record]) -> pd.DataFrame:
    known = list(rows)
    return pd.DataFrame({name: series([row.get(name) for row in known], dtype) for name, (dtype, _, _) in columns.items()})


def series(values: Sequence[Any], dtype: str) -> pd.Series[Any]:
    """A column of one of the dtypes in `analysis.frames.columns`; None is null."""
    if dtype == TIME:
        return pd.to_datetime(pd.Series(values, dtype="int64"), unit="ns", utc=True)
    try:
        return pd.Series(values, dtype=dtype)
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, UTF-8 cannot
        return pd.Series([v.encode(errors="backslashreplace").decode() if isinstance(v, str) else v for v in values], dtype=dtype)
