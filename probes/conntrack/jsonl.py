"""Our own ledger format: one JSON object per line, the same facts as a row of LEDGER.

    {"time_ns": 1795411480104989000, "event": "new", "id": 2971075834, "proto": 17,
     "original": {"src": "10.244.1.3", "dst": "10.96.0.10", "sport": 37822, "dport": 53},
     "reply": {"src": "10.244.0.5", "dst": "10.244.1.3", "sport": 53, "dport": 37822},
     "start_ns": null, "assured": false, "replied": false}

`event` is new, update, destroy or dump; `proto` the IANA number (a few names are also read); `time_ns`, `id` and `start_ns` are null where
unknown. Keys that are missing and may be unknown are unknown; other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from probes import addresses
from probes.conntrack import rows
from probes.schema import LEDGER, Problem, Table

_EVENT_NAMES = {number: name for name, number in rows.EVENTS.items()}
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136}
_UNKNOWN = -1
_LIMITS = {"i8": (1 << 63) - 1, "u2": 0xFFFF, "u1": 0xFF}


def _whole(value: Any, dtype: str) -> int:
    """A whole number that fits; ValueError otherwise (true is no number here, nor is 1.5)."""
    if type(value) is not int or not 0 <= value <= _LIMITS[dtype]:
        raise ValueError(value)
    return value


def _optional(value: Any) -> int:
    return _UNKNOWN if value is None or value == _UNKNOWN else _whole(value, "i8")


def _endpoints(direction: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Addresses and ports of one direction, in LEDGER's order."""
    ports = (_whole(direction.get("sport", 0), "u2"), _whole(direction.get("dport", 0), "u2"))
    return (*addresses.parse(direction["src"]), *addresses.parse(direction["dst"])), ports


def _row(entry: dict[str, Any]) -> tuple[int, ...]:
    """One row in the order of LEDGER's columns; KeyError, TypeError, ValueError or AttributeError where it is none."""
    (original, original_ports), (reply, reply_ports) = (_endpoints(entry[name]) for name in rows.DIRECTIONS)
    proto = entry["proto"]
    flags = rows.REPLIED * bool(entry.get("replied", False)) + rows.ASSURED * bool(entry.get("assured", False))
    times = (_optional(entry.get("time_ns")), _optional(entry.get("start_ns")), _optional(entry.get("id")))
    number = _PROTOCOLS[proto] if isinstance(proto, str) else _whole(proto, "u1")
    return (*times, *original, *reply, *original_ports, *reply_ports, number, rows.EVENTS[entry.get("event", "dump")], flags)


def read_jsonl(content: bytes, file: str) -> tuple[Table, list[Problem]]:
    """LEDGER rows of our JSON lines, in file order, and Problems; never raises on content."""
    read: list[tuple[int, ...]] = []
    problems: list[Problem] = []
    bad_lines, first_bad, number = 0, -1, 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            read.append(_row(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            bad_lines += 1
            first_bad = number if first_bad < 0 else first_bad
    if bad_lines and first_bad == number:  # what follows the last newline: cut, not wrong
        return rows.table(read), [rows.cut(file, number, used=False)]
    if bad_lines:
        problems.append(rows.unreadable(file, bad_lines, first_bad, "ledger entries in JSON"))
    return rows.table(read), problems


def write_jsonl(table: Table) -> Iterator[str]:
    """The rows of a LEDGER table as lines of our format, each with its newline; `read_ledger` gives the same table back."""
    for row in zip(*(table[column.name].tolist() for column in LEDGER.columns), strict=True):
        time_ns, start_ns, identity, *ends, original_sport, original_dport, reply_sport, reply_dport, proto, event, flags = row
        src, dst, reply_src, reply_dst = (addresses.text(*ends[at : at + 2]) for at in range(0, 8, 2))
        entry = {
            "time_ns": None if time_ns == _UNKNOWN else time_ns,
            "event": _EVENT_NAMES[event],
            "id": None if identity == _UNKNOWN else identity,
            "proto": proto,
            "original": {"src": src, "dst": dst, "sport": original_sport, "dport": original_dport},
            "reply": {"src": reply_src, "dst": reply_dst, "sport": reply_sport, "dport": reply_dport},
            "start_ns": None if start_ns == _UNKNOWN else start_ns,
            "assured": bool(flags & rows.ASSURED),
            "replied": bool(flags & rows.REPLIED),
        }
        yield json.dumps(entry) + "\n"
