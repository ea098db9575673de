"""What sockets said of connections: who opened them and what for. The file's lines, written and read (docs/sockets.md)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probes.addresses import endpoint, parse
from probes.conntrack.rows import cut, unreadable
from probes.schema import Column, Problem, Schema, Table

CONNECT, ACCEPT, LISTEN, SENT = 1, 2, 3, 4
EVENTS = {CONNECT: "connect", ACCEPT: "accept", LISTEN: "listen", SENT: "sent"}
_NUMBERS = {name: number for number, name in EVENTS.items()}

_ENDS = {
    "local": "address of the socket's own end, bytes 0-7",
    "remote": "the other end, as the kernel has it",
    "asked": "what the application gave to connect() or sendto()",
    "wire_local": "the socket's end as its first packet left the network namespace, where NAT changed that packet there",
    "wire_remote": "the other end on that packet",
}
ENDS = tuple(_ENDS)

SOCKETS = Schema(
    "sockets",
    (
        Column("time_ns", "i8", "ns since the epoch", "when its connection was opened, or its first packet was sent"),
        Column("cookie", "u8", "", "the kernel's name of the socket (SO_COOKIE), one per boot"),
        Column("netns", "u8", "", "cookie of the network namespace; 0 unknown"),
        *(Column(f"{end}_hi", "u8", "", meaning) for end, meaning in _ENDS.items()),
        *(Column(f"{end}_lo", "u8", "", "") for end in _ENDS),
        *(Column(f"{end}_port", "u2", "", "0 where there is none, or it is not known") for end in _ENDS),
        Column("proto", "u1", "", "IANA protocol number"),
        Column("event", "u1", "", "1 connect, 2 accept, 3 listen, 4 sent: its first packet, not seen to connect or accept"),
        Column("process", "u4", "", "process id in the host's namespace; 0 unknown"),
        Column("thread", "u4", "", "thread id; 0 unknown"),
        Column("owner", "i4", "", "place in `Sockets.owners`"),
    ),
)


@dataclass(frozen=True, slots=True)
class SocketOwner:
    """Whose socket it is: the command of its process and the path of its cgroup, each None where unknown."""

    command: str | None
    cgroup: str | None


@dataclass(slots=True)
class Sockets:
    """SOCKETS of one node, and their owners. `first`: what applications asked for was seen before other programs could rewrite it."""

    table: Table = field(default_factory=SOCKETS.empty)
    owners: list[SocketOwner] = field(default_factory=list)
    first: bool = False


def socket_lines(sockets: Sockets) -> Iterator[str]:
    """The rows as lines, each with its newline; `read_sockets` gives the same back."""
    table = sockets.table
    whose = [f'"command": {json.dumps(owner.command)}, "cgroup": {json.dumps(owner.cgroup)}}}\n' for owner in sockets.owners]
    for row in zip(*(table[column.name].tolist() for column in SOCKETS.columns), strict=True):
        time_ns, cookie, netns, *ends, proto, event, process, thread, owner = row
        local, remote, asked, wire_local, wire_remote = (
            f'"{endpoint(hi, lo, port)}"' if port else "null" for hi, lo, port in zip(ends[:5], ends[5:10], ends[10:], strict=True)
        )
        wire = f'{{"local": {wire_local}, "remote": {wire_remote}}}' if wire_local != "null" else "null"
        who = f'"process": {process or "null"}, "thread": {thread or "null"}, {whose[owner]}'
        yield (
            f'{{"time_ns": {time_ns}, "event": "{EVENTS[event]}", "proto": {proto}, "local": {local}, "remote": {remote}, '
            f'"asked": {asked}, "wire": {wire}, "socket": {cookie}, "netns": {netns or "null"}, {who}'
        )


def read_sockets(content: bytes, file: str) -> tuple[Sockets, list[Problem]]:
    """The sockets of one file's (decompressed) content, in file order, and Problems; never raises on content."""
    rows: list[tuple[int, ...]] = []
    owners: dict[SocketOwner, int] = {}
    first: list[bool] = []
    bad_lines, first_bad, number = 0, 0, 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if entry["event"] in _NUMBERS:
                rows.append(_row(entry, owners))
            elif entry["event"] == "attached":  # once for each recording that the file is of
                first.append(all(entry["first"].get(name) is True for name in ("connect4", "connect6")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            bad_lines += 1
            first_bad = first_bad or number
    found = Sockets(_table(rows), list(owners), bool(first) and all(first))
    if bad_lines and first_bad == number:  # what follows the last newline: cut, not wrong
        return found, [cut(file, number, used=False)]
    return found, [unreadable(file, bad_lines, first_bad, "sockets in JSON")] if bad_lines else []


def _row(entry: dict[str, Any], owners: dict[SocketOwner, int]) -> tuple[int, ...]:
    """A row in the order of SOCKETS' columns; ValueError, KeyError, TypeError or AttributeError where it is none."""
    wire = entry.get("wire") or {"local": None, "remote": None}
    ends = [_parsed(text) for text in (entry["local"], entry["remote"], entry["asked"], wire["local"], wire["remote"])]
    owner = SocketOwner(_text(entry.get("command")), _text(entry.get("cgroup")))
    identity = (_whole(entry["time_ns"], 63), _whole(entry["socket"], 64), _whole(entry.get("netns") or 0, 64))
    who = (_whole(entry.get("process") or 0, 32), _whole(entry.get("thread") or 0, 32), owners.setdefault(owner, len(owners)))
    return (
        *identity,
        *(part for column in zip(*ends, strict=True) for part in column),
        _whole(entry["proto"], 8),
        _NUMBERS[entry["event"]],
        *who,
    )


@functools.lru_cache(maxsize=1 << 16)
def _parsed(text: str | None) -> tuple[int, int, int]:
    """`(hi, lo, port)` of `address:port`; zeros for None."""
    if text is None:
        return 0, 0, 0
    address, _, port = text.rpartition(":")
    return *parse(address.strip("[]")), _whole(int(port), 16)


def _whole(value: Any, bits: int) -> int:
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError(value)
    return value


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(value)
    return value


def _table(rows: list[tuple[int, ...]]) -> Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(SOCKETS.columns)
    return SOCKETS.check({named.name: np.array(values, named.dtype) for named, values in zip(SOCKETS.columns, columns, strict=True)})
