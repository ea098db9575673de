"""The reconstruction as one visible list of steps: evidence in, connections out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probes.decode.link import ALL_INTERFACES
from probes.decode.numbers import EMBEDDED
from probes.jit import kernel
from probes.schema import Array, ObservationPoint, Table, size, take
from probes.sockets import Sockets
from tracer import evidence
from tracer.components import Components
from tracer.connections import JOINED, Joined, Paths, identity_evidence, node_ranks, paths
from tracer.hops import handshake_times, hops
from tracer.icmp_errors import attach
from tracer.joins import Joining, join_legs
from tracer.ledger import entries, ledger_tuples
from tracer.legs import legs
from tracer.losses import losses
from tracer.orders import by_number, merged
from tracer.schema import CONNECTIONS, ENTRIES, HOPS, LEGS, LOSSES, TRANSLATIONS
from tracer.sides import client_side
from tracer.sightings import linked_rows, sightings
from tracer.sockets import SocketLookup, SocketTable, gather, socket_tuples
from tracer.status import statuses, unreachable
from tracer.tuples import code_tuples, reverse_codes


@dataclass(slots=True)
class Reconstruction:
    """All tables of one run. Rows of `connections` are in the order of their start; other tables refer to them by row."""

    nodes: tuple[str, ...]
    points: tuple[ObservationPoint, ...]
    observations: Table
    tuples: Table
    legs: Table
    entries: Table
    connections: Table
    translations: Table
    hops: Table
    losses: Table
    icmp_errors: dict[int, list[int]]  # rows of the ICMP errors about each connection that has any
    problems: dict[int, list[str]]  # what could not be told of a connection, and why
    sighting_rows: Array  # observations joined, by connection
    sighting_connections: Array
    sighting_forward: Array
    sighting_points: Array
    sighting_tuples: Array
    sighting_identities: Array  # equal for all sightings of one packet, 0 where it cannot be told (tracer.sightings)
    sockets: SocketTable
    client_socket: Array  # row of `sockets` per connection, -1 unknown
    server_socket: Array


def reconstruct(
    observations: Table,
    points: Sequence[ObservationPoint],
    ledgers: Mapping[str, Table],
    sockets: Mapping[str, Sockets] | None = None,
    linked: Array | None = None,
) -> Reconstruction:
    """Join `observations` (whose `point` indexes `points`), each node's LEDGER table and its sockets into connections.

    Only rows that are `linked` are looked at, `linked_rows` of all if nobody says.
    """
    sockets = sockets or {}
    nodes = tuple(sorted({point.node for point in points} | set(ledgers) | set(sockets)))
    node_of_point = np.array([nodes.index(point.node) for point in points] or [0], "i4")
    linked = linked_rows(observations) if linked is None else linked
    about_others = observations["view"][linked] == EMBEDDED
    rows, errors = linked[~about_others], linked[about_others]
    ledger_nodes = sorted(ledgers)
    both = [ledger_tuples(ledgers[node]) for node in ledger_nodes]
    owned = gather(sockets, nodes)
    told = [(table, np.arange(len(table["proto"]))) for table in (*itertools.chain(*both), *socket_tuples(owned.table))]
    tuples, (*codes, owned.own, owned.asked, owned.wire) = code_tuples([(observations, rows), (observations, errors), *told])
    entry_table = entries([ledgers[node] for node in ledger_nodes], [nodes.index(node) for node in ledger_nodes], codes[2::2], codes[3::2])
    if not len(rows):
        return _nothing(nodes, points, observations, tuples, entry_table, owned)

    seen = sightings(observations, rows, tuples, codes[0], node_of_point, same_points(points))
    leg_table, leg = legs(seen, observations)
    joining = Joining(seen, tuples, leg_table, leg, entry_table, Components(size(leg_table), leg_table["isn"]))
    join_legs(joining)
    joined, leg = _oriented(joining, observations)
    del seen, joining  # each is about as large as the observations

    bits, ranks = identity_evidence(joined, observations), node_ranks(joined, observations)
    lookup = SocketLookup(owned, reverse_codes(tuples)) if size(owned.table) else None
    found, count = paths(joined, tuples, ranks, bits, entry_table, lookup), len(bits)
    about = attach(joined, observations, errors, codes[1], node_of_point)
    rejected = _rejections(observations, errors, about, count)
    status, answer_ns = statuses(joined, observations, rejected)
    hop_table = hops(joined, observations, found.positions)
    loss_table, again = losses(joined, observations, leg, hop_table)
    connections = _connection_table(joined, tuples, found)
    connections |= {
        "status": status, "answer_ns": answer_ns, "retransmissions": again,
        "handshake_ns": handshake_times(hop_table, observations, count),
    }  # fmt: skip
    icmp: dict[int, list[int]] = {}
    for row, connection in zip(observations["outer"][errors].tolist(), about.tolist(), strict=True):
        icmp.setdefault(connection, []).append(row)
    return Reconstruction(
        nodes, tuple(points), observations, tuples, leg_table, entry_table,
        CONNECTIONS.check({column.name: connections[column.name] for column in CONNECTIONS.columns}),
        found.translations, hop_table, loss_table, icmp, found.problems,
        joined.sightings["row"], joined.connection, joined.forward, joined.sightings["point"], joined.sightings["tuple"],
        joined.sightings["identity"], owned, found.client_socket, found.server_socket,
    )  # fmt: skip


def same_points(points: Sequence[ObservationPoint]) -> Array:
    """For each observation point the first one that is the same place (int32): a capture that rotates has one place in many files."""
    places: dict[tuple[object, ...], int] = {}
    same = []
    for row, point in enumerate(points):
        known = point.interface != "any" or point.link_type in ALL_INTERFACES
        place = (point.node, point.interface, point.ifindex, "" if known else point.file)
        same.append(places.setdefault(place, row))
    return np.array(same or [0], "i4")


def _nothing(
    nodes: tuple[str, ...], points: Sequence[ObservationPoint], observations: Table, tuples: Table, entry_table: Table, owned: SocketTable
) -> Reconstruction:
    none = np.empty(0, "i8")
    return Reconstruction(
        nodes, tuple(points), observations, tuples, LEGS.empty(), ENTRIES.check(entry_table), CONNECTIONS.empty(), TRANSLATIONS.empty(),
        HOPS.empty(), LOSSES.empty(), {}, {}, none, none, none.astype(bool), none, none, none.astype("u8"), owned, none,
        none,
    )  # fmt: skip


def _oriented(joining: Joining, observations: Table) -> tuple[Joined, Array]:
    """Number the components by their first packet and tell their sides; also returns the leg of each sighting in the new order."""
    seen, leg_table, leg = joining.sightings, joining.legs, joining.leg
    roots, turned = joining.components.roots()
    names, labels = _labels(roots, len(roots))
    client, handshake, first_ns, lowest = client_side(seen, observations, joining.tuples, leg, labels, turned, len(names))
    number = np.empty(len(names), "i8")
    number[np.lexsort((lowest, first_ns))] = np.arange(len(names))  # ties in time are broken by the tuple, never by the order of files
    connections, nodes = number[labels], int(leg_table["node"].max()) + 1
    runs = by_number(connections, len(names), by_number(leg_table["node"], nodes))
    begins = np.append(0, np.cumsum(leg_table["sightings"]))
    order = merged(begins, runs, connections * nodes + leg_table["node"], seen["time_ns"], seen["row"])
    sizes, told = np.zeros(len(names), "i8"), np.empty(len(names), bool)
    np.add.at(sizes, connections, leg_table["sightings"])
    told[number] = handshake
    leg, backward = leg[order], seen["backward"][order]
    seen = take({name: seen[name] for name in JOINED}, order)
    forward = backward == (turned ^ client[labels])[leg]
    towards = np.where(forward, seen["tuple"], reverse_codes(joining.tuples)[seen["tuple"]])
    bounds = np.append(0, np.cumsum(sizes))
    return Joined(seen, np.repeat(np.arange(len(names)), sizes), forward, towards, told, bounds), leg


def _labels(root: Array, count: int) -> tuple[Array, Array]:
    """What `np.unique` gives with `return_inverse`, for numbers below `count`."""
    there = np.zeros(count, bool)
    there[root] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[root]


def _rejections(observations: Table, errors: Array, about: Array, count: int) -> Array:
    rejected = np.full(count, -1, "i8")
    outer = observations["outer"][errors]
    told = (about >= 0) & unreachable(observations, outer)
    np.maximum.at(rejected, about[told], observations["time_ns"][outer][told])
    return rejected


def _connection_table(joined: Joined, tuples: Table, found: Paths) -> Table:
    seen, count = joined.sightings, len(found.first_node)
    start, end, most = np.empty(count, "i8"), np.empty(count, "i8"), np.zeros((2, count), "i8")
    points = np.zeros((2, int(seen["point"].max()) + 1), "i8")
    _span(
        joined.bounds, joined.forward, seen["point"], seen["node"], seen["time_ns"], found.first_node, points, start, end, most
    )  # fmt: skip
    confidence = {value: evidence.confidence(value) for value in set(found.evidence.tolist())}
    return {
        "proto": tuples["proto"][seen["tuple"][joined.bounds[:-1]]], "start_ns": start, "end_ns": end,
        "original": found.original.astype("i4"), "translated": found.translated.astype("i4"), "first_seen": found.first_seen.astype("i4"),
        "first_node": found.first_node.astype("i4"), "origin_node": found.origin_node.astype("i4"),
        "confidence": np.array([confidence[value] for value in found.evidence.tolist()], "f4"), "evidence": found.evidence.astype("u2"),
        "packets_original": most[1], "packets_reply": most[0],
    }  # fmt: skip


@kernel
def _span(  # noqa: PLR0913, PLR0917 - columns
    bounds: Array, forward: Array, point: Array, node: Array, time_ns: Array, first_node: Array, points: Array, start: Array, end: Array,
    most: Array,
) -> None:  # fmt: skip
    """First and last packet on its first node, and packets of each direction (0: replies) at the point that saw most, per connection.

    `points` are counters that are 0.
    """
    for connection in range(len(bounds) - 1):
        start[connection], end[connection] = np.iinfo(np.int64).max, -1
        for row in range(bounds[connection], bounds[connection + 1]):
            if node[row] == first_node[connection]:
                start[connection], end[connection] = min(start[connection], time_ns[row]), max(end[connection], time_ns[row])
            way = 1 if forward[row] else 0
            points[way, point[row]] += 1
            most[way, connection] = max(most[way, connection], points[way, point[row]])
        for row in range(bounds[connection], bounds[connection + 1]):
            points[:, point[row]] = 0
