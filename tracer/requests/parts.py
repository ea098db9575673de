"""What requests of a whole bundle follow from, told of a part of its connections; and the parts as one again.

Packets are left out, but for the few observations that requests show as hops: a part is as large as its requests and connections are many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from probes.dissect import Exchange, Handshake
from probes.schema import Array, Table, size, take
from tracer.bundle import Bundle
from tracer.cluster import Owner, ServicePort
from tracer.names import Named
from tracer.pipeline import Reconstruction
from tracer.requests.dissection import Dissection
from tracer.requests.passed import Passed
from tracer.requests.streams import SEGMENTS
from tracer.schema import ENTRIES, LEGS, LOSSES, TRANSLATIONS
from tracer.sockets import SocketTable, gather
from tracer.trace import Trace
from tracer.tuples import FIELDS

SHOWN = ("direction", "frame", "point", "outer", "tunnel", "vni", "src_hi", "src_lo", "dst_hi", "dst_lo")  # columns of observations
_CODES = ("original", "translated", "source", "target")  # of Named
_ENDS = ("client_socket", "server_socket")


@dataclass(slots=True)
class Part:
    """Tables by name as in `Reconstruction`, whose `tuples` and `observations` are those that the others refer to.

    `names` has Named's tuples and, of its client, server and service, rows of `owners` and `services` (-1: None). `sockets` has node and
    cookie of each connection's sockets (-1: unknown). `exchanges` are in the order of connections, `carried` has the connection of each.
    """

    nodes: tuple[str, ...]
    connections: Table
    names: Table
    hops: Table
    tuples: Table
    observations: Table
    sockets: Table
    passed: Table
    elsewhere: Table
    beginnings: Table
    unanswered: Array
    carried: Array
    exchanges: list[Exchange]
    handshakes: dict[int, Handshake]
    unread: dict[int, str]
    owners: list[Owner]
    services: list[ServicePort]
    problem: str | None


def part(traced: Trace, found: Dissection, seen: Passed) -> Part:
    """What is needed of a trace of some connections, and of what was read in them."""
    tables = traced.tables
    exchanges, carried = found.in_order()
    owners: dict[Owner, int] = {}
    services: dict[ServicePort, int] = {}
    names: Table = {name: np.array([getattr(each, name) for each in traced.named], "i4") for name in _CODES}
    for name in ("client", "server"):
        each = [getattr(named, name) for named in traced.named]
        names[name] = np.array([-1 if owner is None else owners.setdefault(owner, len(owners)) for owner in each], "i4")
    names["service"] = np.array(
        [-1 if named.service is None else services.setdefault(named.service, len(services)) for named in traced.named], "i4"
    )
    hops, passed = dict(tables.hops), dict(seen.requests)
    observations, (hops["row"], passed["row"]) = _observations(tables.observations, [hops["row"], passed["row"]])
    connections = dict(tables.connections)
    coded = ((connections, ("original", "translated", "first_seen")), (names, _CODES), (hops, ("tuple",)))
    columns = [(table, name) for table, named in coded for name in named]
    used = np.unique(np.concatenate([table[name] for table, name in columns]))
    used = used[used >= 0]
    for table, name in columns:
        table[name] = np.where(table[name] >= 0, np.searchsorted(used, table[name]), -1).astype("i4")
    tuples = {name: tables.tuples[name][used] for name in FIELDS}
    return Part(
        tables.nodes, connections, names, hops, tuples, observations, _sockets(tables), passed, seen.elsewhere, seen.beginnings,
        seen.unanswered, carried, exchanges, found.handshakes, found.unread, list(owners), list(services), found.problem,
    )  # fmt: skip


def _observations(table: Table, columns: Sequence[Array]) -> tuple[Table, list[Array]]:
    """The observations at the rows in `columns` (-1: none), and what these were in; and the columns for that table."""
    rows = np.unique(np.concatenate(columns))
    rows = rows[rows >= 0]
    around = table["outer"][rows]
    kept = np.union1d(rows, around[around >= 0])
    few = {name: table[name][kept] for name in SHOWN}
    outer = few["outer"]
    there = np.minimum(np.searchsorted(kept, outer), max(len(kept) - 1, 0))
    few["outer"] = np.where(kept[there] == outer, there, -1) if len(kept) else outer
    return few, [np.where(column >= 0, np.searchsorted(kept, column), -1) for column in columns]


def _sockets(tables: Reconstruction) -> Table:
    found: Table = {}
    for name in _ENDS:
        rows = getattr(tables, name)
        known = np.flatnonzero(rows >= 0)
        node, cookie = np.full(size(tables.connections), -1, "i4"), np.zeros(size(tables.connections), "u8")
        node[known] = tables.sockets.node[rows[known]]
        cookie[known] = tables.sockets.table["cookie"][rows[known]]
        found |= {f"{name}_node": node, f"{name}_cookie": cookie}
    return found


def joined(parts: Sequence[Part], ranks: Sequence[Array], bundle: Bundle) -> tuple[Trace, Dissection, Passed]:
    """The parts as one; `ranks[i]` are the rows (int64) in it of the connections of part i, `bundle` is that of all, packets left out."""
    order = np.argsort(np.concatenate(ranks))
    tuples, observations = ([_size(getattr(each, name)) for each in parts] for name in ("tuples", "observations"))
    connections = take(_stacked(parts, "connections", {"original": tuples, "translated": tuples, "first_seen": tuples}), order)
    hops = _stacked(parts, "hops", {"row": observations, "tuple": tuples})
    hops["connection"] = _ranked(parts, ranks, "hops")
    path = np.argsort(hops["connection"], kind="stable")
    carried = np.concatenate([each[part.carried] for each, part in zip(ranks, parts, strict=True)])
    said = np.argsort(carried, kind="stable")
    asked = {"row": observations, "hop": [_size(each.hops) for each in parts], "exchange": [len(each.exchanges) for each in parts]}
    passed = _stacked(parts, "passed", asked)
    passed["hop"], passed["exchange"] = _turned(path)[passed["hop"]], _turned(said)[passed["exchange"]].astype("i4")
    passed = take(passed, np.lexsort((passed["hop"], passed["exchange"], passed["last"])))
    elsewhere = _stacked(parts, "elsewhere", {"exchange": asked["exchange"]})
    elsewhere["exchange"] = _turned(said)[elsewhere["exchange"]].astype("i4")
    beginnings = _stacked(parts, "beginnings", {}) | {"connection": _ranked(parts, ranks, "beginnings")}
    sockets = gather(bundle.sockets, parts[0].nodes)
    none = np.empty(0, "i8")
    shown = _stacked(parts, "observations", {"outer": observations})
    tables = Reconstruction(
        parts[0].nodes, tuple(bundle.points), shown, _stacked(parts, "tuples", {}), LEGS.empty(), ENTRIES.empty(), connections,
        TRANSLATIONS.empty(), take(hops, path), LOSSES.empty(), {}, {}, none, none, none.astype(bool), none, none, none.astype("u8"),
        sockets, *_rows_of(sockets, take(_stacked(parts, "sockets", {}), order)),
    )  # fmt: skip
    found = _said(parts, ranks, zip(said.tolist(), carried[said].tolist(), strict=True))
    whole = Trace(bundle, tables, _named(parts, order, tuples), {}, [])
    return whole, found, Passed(passed, elsewhere, beginnings, np.concatenate([each.unanswered for each in parts])[said])


def _named(parts: Sequence[Part], order: Array, tuples: list[int]) -> list[Named]:
    """The names on connections, as far as requests need them."""
    owners, services = ([item for each in parts for item in getattr(each, name)] for name in ("owners", "services"))
    people, ports = ([len(getattr(each, name)) for each in parts] for name in ("owners", "services"))
    table = _stacked(parts, "names", dict.fromkeys(_CODES, tuples) | {"client": people, "server": people, "service": ports})
    columns = (table[name][order].tolist() for name in (*_CODES, "client", "server", "service"))
    return [
        Named(
            original, translated, 0.0, 0, source, None if client < 0 else owners[client], None if server < 0 else owners[server],
            None if service < 0 else services[service], target=target,
        )
        for original, translated, source, target, client, server, service in zip(*columns, strict=True)
    ]  # fmt: skip


def _said(parts: Sequence[Part], ranks: Sequence[Array], carried: Iterable[tuple[int, int]]) -> Dissection:
    """What was read: `carried` has each exchange's place in all parts, and its connection."""
    found = Dissection(SEGMENTS.empty(), problem=next((each.problem for each in parts if each.problem), None))
    exchanges = [exchange for each in parts for exchange in each.exchanges]
    for place, connection in carried:
        found.exchanges.setdefault(connection, []).append(exchanges[place])
    for each, part in zip(ranks, parts, strict=True):
        found.handshakes |= {int(each[row]): handshake for row, handshake in part.handshakes.items()}
        found.unread |= {int(each[row]): why for row, why in part.unread.items()}
    return found


def _rows_of(sockets: SocketTable, ends: Table) -> list[Array]:
    """For each of _ENDS, rows (int64) of `sockets` that have the node and the cookie of each connection's."""
    place = {key: row for row, key in enumerate(zip(sockets.node.tolist(), sockets.table["cookie"].tolist(), strict=True))}
    asked = ([ends[f"{name}_{what}"].tolist() for what in ("node", "cookie")] for name in _ENDS)
    return [np.array([place.get(key, -1) for key in zip(*columns, strict=True)], "i8") for columns in asked]


def _size(table: Table) -> int:
    return len(next(iter(table.values())))


def _turned(order: Array) -> Array:
    """Where each row goes that `order` puts somewhere."""
    place = np.empty(len(order), "i8")
    place[order] = np.arange(len(order))
    return place


def _ranked(parts: Sequence[Part], ranks: Sequence[Array], name: str) -> Array:
    return np.concatenate([each[getattr(part, name)["connection"]] for each, part in zip(ranks, parts, strict=True)]).astype("i4")


def _stacked(parts: Sequence[Part], name: str, counted: dict[str, list[int]]) -> Table:
    """One table of all parts', whose columns `counted` are rows (-1: none) of others with so many rows in each part."""
    tables: list[Table] = [getattr(each, name) for each in parts]
    found = {column: np.concatenate([table[column] for table in tables]) for column in tables[0]}
    for column, counts in counted.items():
        before = np.repeat(np.cumsum([0, *counts[:-1]]), [_size(table) for table in tables])
        found[column] = np.where(found[column] >= 0, found[column] + before, -1).astype(found[column].dtype)
    return found
