"""conntrack's text: `conntrack -L`, `conntrack -E` with any -o options, and /proc/net/nf_conntrack.

The grammar is libnetfilter_conntrack's `__snprintf_conntrack_default` (src/conntrack/snprintf_default.c), the kernel's `ct_seq_show`
(net/netfilter/nf_conntrack_standalone.c) and, for the time in front, conntrack-tools' `event_cb` (src/conntrack.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from probes.conntrack import rows
from probes.conntrack.scan import DELTA, EVENT, FLAGS, ID, NUMBERS, PORTS, PROTO, START_AT, TIME, scan
from probes.conntrack.start import starts
from probes.schema import LEDGER, Array, Problem, Table

BLOCK_BYTES = 1 << 24  # bounds the memory beside the table itself: some 100,000 lines
# What conntrack itself says between and after the entries.
_NOISE = re.compile(
    rb"conntrack v|WARNING: We have hit ENOBUFS|This message means that the current netlink|Please, check --buffer-size", re.IGNORECASE
)
_LOST = b"We have hit ENOBUFS"
# A reply tuple with what follows it up to the first thing that is printed after the place of [ASSURED], or [ASSURED] itself.
_SETTLED = re.compile(
    rb"src=\S+ dst=\S+(?: sport=\d+ dport=\d+| type=\d+ code=\d+ id=\d+| srckey=\S+ dstkey=\S+)?(?: zone-\w+=\d+)?"
    rb"(?: packets=\d+ bytes=\d+)? (?:\[(?:ASSURED|OFFLOAD|HW_OFFLOAD)\]|(?:mark|secmark|secctx|zone|delta-time|helper|use|id)=)"
)
_ADDRESSES = ("original_src", "original_dst", "reply_src", "reply_dst")
_NUMBERS = {"time_ns": TIME, "id": ID, "proto": PROTO, "event": EVENT, "flags": FLAGS} | {
    name: PORTS + at for at, name in enumerate(("original_sport", "original_dport", "reply_sport", "reply_dport"))
}


def _blocks(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Pieces of whole lines, each with its place in `content`, which ends in a newline or is empty."""
    start = 0
    while start < len(content):
        stop = content.find(b"\n", start + BLOCK_BYTES) + 1 or len(content)
        yield start, content[start:stop]
        start = stop


def _table(block: bytes) -> tuple[Table, Array, bool]:
    """LEDGER rows of whole lines, the places of unreadable lines, and whether a start time's zone is a guess."""
    content = np.frombuffer(block, "u1")
    lines = np.count_nonzero(content == ord("\n"))  # faster than `bytes.count` takes
    numbers = np.empty((lines, NUMBERS), "i8")
    groups = np.empty((lines, 4, 8), "u2")
    bad = np.empty(lines, "i8")
    count, bad_count = scan(content, numbers, groups, bad)
    halves = groups[:count].astype(">u2").view(">u8").astype("u8")
    columns: Table = {name: numbers[:count, place] for name, place in _NUMBERS.items()}
    columns["start_ns"], guessed = starts(block, numbers[:count, START_AT], numbers[:count, DELTA], columns["time_ns"])
    for side, name in enumerate(_ADDRESSES):
        columns[f"{name}_hi"], columns[f"{name}_lo"] = halves[:, side, 0], halves[:, side, 1]
    return {column.name: columns[column.name].astype(column.dtype) for column in LEDGER.columns}, bad[:bad_count], guessed


def _trusted(line: bytes) -> bytes:
    """What can be trusted of a last line without a newline: all but its last field, or nothing where flags or ports may be missing.

    A number that ends the file may have had more digits, so a cut line could otherwise give a wrong port or id.
    """
    if _SETTLED.match(line, max(line.rfind(b" src="), 0) + 1) is None:
        return b""
    return (line if line.endswith(b"]") else line.rpartition(b" ")[0]) + b"\n"


def read_text(content: bytes, file: str) -> tuple[Table, list[Problem]]:
    """LEDGER rows of conntrack's text, in file order, and Problems; never raises on content."""
    whole, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    tables: list[Table] = []
    problems: list[Problem] = []
    bad_lines, first_bad, zone_guessed = 0, -1, False
    for place, block in _blocks(whole):
        table, bad, guessed = _table(block)
        tables.append(table)
        zone_guessed |= guessed
        bad_places = [at for at in bad.tolist() if not _NOISE.match(block, at)]
        bad_lines += len(bad_places)
        if bad_places and first_bad < 0:
            first_bad = place + bad_places[0]
    if bad_lines:
        problems.append(rows.unreadable(file, bad_lines, content.count(b"\n", 0, first_bad) + 1, "conntrack entries"))
    if last.strip() and not last.startswith(b"#") and not _NOISE.match(last):
        table, _, guessed = _table(_trusted(last))
        tables.append(table)
        zone_guessed |= guessed
        problems.append(rows.cut(file, content.count(b"\n") + 1, used=bool(len(table["id"]))))
    if zone_guessed:
        what = "start times are printed in the node's local time and no line tells its zone: they are taken as UTC"
        problems.append(Problem(file, what, "record with -o timestamp, or with TZ=UTC", severity="note"))
    if _LOST in content:
        remedy = "record with a larger --buffer-size; a dump (-L) at the end recovers entries that still lived"
        problems.append(
            Problem(file, "conntrack says that it lost events (ENOBUFS)", remedy, content.count(b"\n", 0, content.index(_LOST)) + 1)
        )
    return LEDGER.check(LEDGER.concat(tables)), problems
