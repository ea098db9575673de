"""From connections to the exchanges on them: which bytes to read, what protocol they are, and why some could not be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from probes.dissect import BY_NAME, DissectionError, Exchange, Handshake, Piece, ask_ahead, read_side_by_side, recognise, turns
from probes.schema import Array, Table, size
from tracer.bundle import Bundle
from tracer.pipeline import Reconstruction
from tracer.requests.payloads import payloads
from tracer.requests.pieces import pieces
from tracer.requests.streams import segments

HEAD_BYTES = 64  # of each side's first piece, enough to tell the protocol
IN_ORDER = frozenset({"http", "mysql", "postgresql", "redis"})  # protocols in which one message follows another
Content = Callable[[Array, Array, Array], list[bytes]]  # as `payloads`, of one bundle
ENCRYPTED, TRUNCATED, LOST, UNKNOWN, NOT_DISSECTED = "encrypted", "truncated", "lost", "unknown protocol", "not dissected"
NO_PAYLOAD = "an archive keeps no payload (give the bundle that it was made of)"


@dataclass(slots=True)
class Dissection:
    """What was read: `exchanges` and `protocols` by row of `connections`, `unread` why others that carried something were not."""

    segments: Table
    exchanges: dict[int, list[Exchange]] = field(default_factory=dict)
    protocols: dict[int, str] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)
    handshakes: dict[int, Handshake] = field(default_factory=dict)  # of TLS
    problem: str | None = None  # why nothing could be dissected

    def in_order(self) -> tuple[list[Exchange], Array]:
        """All exchanges in the order of their connections, and the connection (int32) of each."""
        rows = sorted(self.exchanges)
        exchanges = [exchange for row in rows for exchange in self.exchanges[row]]
        return exchanges, np.repeat(np.array(rows, "i4"), [len(self.exchanges[row]) for row in rows])


def stream_segments(traced: Reconstruction) -> Table:
    """The SEGMENTS of all connections."""
    node_of_point = np.array([traced.nodes.index(point.node) for point in traced.points] or [0], "i4")
    return segments(
        traced.observations, traced.sighting_rows, traced.sighting_connections, traced.sighting_forward,
        node_of_point[traced.sighting_points], traced.sighting_points, traced.sighting_tuples, traced.sighting_identities,
    )  # fmt: skip


def dissect(
    bundle: Bundle,
    traced: Reconstruction,
    *,
    wanted: Array | None = None,
    keys: Path | None = None,
    content: Content | None = None,
    processes: int | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Dissection:
    """Read the exchanges on the connections that `wanted` (bool per connection; all by default) names.

    `keys` is a TLS key log file, `content` gives bytes (of captures, by default), `processes` dissect side by side (None: as fits).
    `progress` is called with what is done, how much of it, and of how much (packets).
    """
    chosen = np.ones(size(traced.connections), bool) if wanted is None else wanted
    if bundle.has_payload and chosen.any():
        ask_ahead()
    found = Dissection(stream_segments(traced))
    table = pieces(found.segments, traced.observations, chosen)
    if not size(table):
        return found
    if not bundle.has_payload:
        found.problem = NO_PAYLOAD
        found.unread = dict.fromkeys(np.unique(table["connection"]).tolist(), NOT_DISSECTED)
        return found
    captured = (content or partial(payloads, bundle))(table["row"], table["skip"], table["size"])
    found.protocols = _protocols(traced, table, captured)
    known = np.isin(table["connection"], np.fromiter(found.protocols, "i4", len(found.protocols)))
    total = int(np.count_nonzero(known))
    fed = _pieces(table, captured, np.flatnonzero(known))
    del captured
    try:
        said = read_side_by_side(
            fed, found.protocols, keys=keys, progress=lambda done: progress("dissecting", done, total), processes=processes
        )
    except DissectionError as error:
        found.problem = str(error)
        found.unread = dict.fromkeys(found.protocols, NOT_DISSECTED)
        return found
    found.exchanges, found.handshakes = said.exchanges, said.handshakes
    found.unread = _unread(table, found) | {row: why for row, why in said.unread.items() if row not in found.exchanges}
    _extend(table, found)
    found.exchanges |= _by_turns(table, np.flatnonzero(~known & (table["stream"] > 0)))
    return found


def _pieces(table: Table, content: list[bytes], rows: Array) -> list[Piece]:
    columns = zip(
        *(table[name][rows].tolist() for name in ("connection", "reply", "offset", "wire", "time_ns", "fin", "stream")), strict=True
    )
    return [
        Piece(connection, not reply, offset, content[row], wire, time_ns, bool(fin), bool(stream))
        for row, (connection, reply, offset, wire, time_ns, fin, stream) in zip(rows.tolist(), columns, strict=True)
    ]


def _protocols(traced: Reconstruction, table: Table, content: list[bytes]) -> dict[int, str]:
    """What each connection speaks (names of BY_NAME), by row; those that nothing tells are left out."""
    heads: dict[int, list[bytes]] = {}
    streams: dict[int, bool] = {}
    for row, (connection, reply) in enumerate(zip(table["connection"].tolist(), table["reply"].tolist(), strict=True)):
        head = heads.setdefault(connection, [b"", b""])
        streams[connection] = bool(table["stream"][row])
        if not head[reply]:
            head[reply] = content[row][:HEAD_BYTES]
    tuples = traced.tuples
    found = {}
    for connection, (client, server) in heads.items():
        codes = (int(traced.connections[name][connection]) for name in ("original", "translated", "first_seen"))
        ports = {int(tuples["dport"][code]) for code in codes if code >= 0}
        name = recognise(client, server, ports, datagrams=not streams[connection])
        if name in BY_NAME:
            found[connection] = name
    return found


def _by_turns(table: Table, rows: Array) -> dict[int, list[Exchange]]:
    """The exchanges of streams whose protocol nothing tells: one side speaks, then the other."""
    connection = table["connection"][rows]
    bounds = np.flatnonzero(np.diff(connection, prepend=-1, append=-1))
    found = {}
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        mine = rows[first:last]
        exchanges = turns(*(table[name][mine].tolist() for name in ("reply", "offset", "wire")))
        if exchanges:
            found[int(connection[first])] = exchanges
    return found


def _extend(table: Table, found: Dissection) -> None:
    """Let messages whose rest was not captured reach to the next one of their side: only its wire length tells where they end."""
    stop = table["offset"] + table["wire"]
    cut = np.flatnonzero((table["size"] < table["wire"]) & (table["stream"] > 0))
    columns = (table[name][cut].tolist() for name in ("connection", "reply", "offset", "size"))
    short = {(connection, reply, offset + captured) for connection, reply, offset, captured in zip(*columns, strict=True)}
    ends: dict[tuple[int, int], int] = {}
    for connection, reply, end in zip(table["connection"].tolist(), table["reply"].tolist(), stop.tolist(), strict=True):
        ends[connection, reply] = max(ends.get((connection, reply), 0), end)
    for connection in {connection for connection, _, _ in short} & set(found.exchanges):
        if found.protocols[connection] not in IN_ORDER:
            continue
        exchanges = found.exchanges[connection]
        for reply, side in enumerate(("request", "response")):
            following = ends.get((connection, reply), -1)
            for exchange in reversed(exchanges):
                if (connection, reply, getattr(exchange, f"{side}_end")) in short:
                    setattr(exchange, f"{side}_end", following)
                start = getattr(exchange, f"{side}_start")
                following = start if start >= 0 else following


def _unread(table: Table, found: Dissection) -> dict[int, str]:
    """Why a connection that carried bytes has no exchange, as far as that can be told."""
    short = np.bincount(table["connection"], weights=(table["size"] < table["wire"])) > 0
    missing: dict[int, str] = {}
    carried = (table["stream"] > 0) & (table["wire"] > 0)
    for connection in np.unique(table["connection"][carried]).tolist():
        if connection in found.exchanges:
            continue
        protocol = found.protocols.get(connection)
        if protocol == "tls":
            missing[connection] = ENCRYPTED
        elif short[connection]:
            missing[connection] = TRUNCATED
        elif protocol is None:
            missing[connection] = UNKNOWN
        else:
            missing[connection] = LOST
    return missing
