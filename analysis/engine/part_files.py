"""A partition's `Part` in a file: its tables as arrays, the rest as JSON; pickles would run whatever a folder's owner likes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from probes.dissect import Exchange, Handshake
from probes.schema import Table
from tracer.cluster import Owner, ServicePort
from tracer.requests.parts import Part

_TABLES = ("connections", "names", "hops", "tuples", "observations", "sockets", "passed", "elsewhere", "beginnings")
_ARRAYS = ("unanswered", "carried")
_LISTS: dict[str, type[Any]] = {"exchanges": Exchange, "owners": Owner, "services": ServicePort}


def save_part(part: Part, beside: object, file: IO[bytes]) -> None:
    """Write all of it to `file`, for `load_part`, and something `beside` it."""
    told = {
        "beside": beside, "nodes": part.nodes, "problem": part.problem, "unread": list(part.unread.items()),
        "handshakes": [(row, _row(each)) for row, each in part.handshakes.items()],
        **{name: [_row(each) for each in getattr(part, name)] for name in _LISTS},
    }  # fmt: skip
    tables: dict[str, Table] = {name: getattr(part, name) for name in _TABLES}
    arrays = {f"{name}.{column}": values for name, table in tables.items() for column, values in table.items()}
    arrays |= {name: getattr(part, name) for name in _ARRAYS}
    np.savez(file, allow_pickle=False, told=np.frombuffer(json.dumps(told).encode(), "u1"), **arrays)


def load_part(path: Path) -> tuple[Part, Any]:
    """What `save_part` wrote."""
    columns: dict[str, Any] = {name: {} for name in _TABLES}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        told = json.loads(kept["told"].tobytes())
        for name in kept.files:
            table, _, column = name.partition(".")
            if column:
                columns[table][column] = kept[name]
        columns |= {name: kept[name] for name in _ARRAYS}
    columns |= {name: [kind(*row) for row in told[name]] for name, kind in _LISTS.items()}
    columns |= {"handshakes": {row: _handshake(each) for row, each in told["handshakes"]}, "unread": dict(told["unread"])}
    return Part(nodes=tuple(told["nodes"]), problem=told["problem"], **columns), told["beside"]


def _row(each: Any) -> list[object]:
    return [getattr(each, field.name) for field in fields(each)]


def _handshake(row: Iterable[Any]) -> Handshake:
    name, offered, *rest = row
    return Handshake(name, tuple(offered), *rest)
