"""In which order threads read and wrote their sockets. The file's lines, written and read (docs/sockets.md).

    {"time_ns": 1795516312728970578, "way": "read", "thread": 21285, "socket": 7301, "bytes": 512}
    {"time_ns": 1795516312828970578, "way": "lost", "count": 23}

`socket` is the cookie that lines of sockets have; from the time of `lost` on, so many are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from probes.json_lines import read_rows, table_of
from probes.schema import Array, Column, Problem, Schema, Table

LOST, READ, WRITE = 0, 1, 2
WAYS = {LOST: "lost", READ: "read", WRITE: "write"}
_NUMBERS = {name: number for number, name in WAYS.items()}

USES = Schema(
    "uses",
    (
        Column("time_ns", "i8", "ns since the epoch", "when it was done; of lost ones, since when"),
        Column("cookie", "u8", "", "SOCKETS.cookie"),
        Column("thread", "u4", "", "thread id in the host's namespace; 0 for lost ones"),
        Column("bytes", "u4", "bytes", "read or written; of lost ones how many"),
        Column("way", "u1", "", "1 read, 2 written, 0 lost"),
    ),
)


def use_lines(time_ns: Array, cookie: Array, thread: Array, length_bytes: Array, way: Array) -> Iterator[str]:
    """The lines of reads and writes."""
    for when, socket, who, length, how in zip(*(each.tolist() for each in (time_ns, cookie, thread, length_bytes, way)), strict=True):
        yield f'{{"time_ns": {when}, "way": "{WAYS[how]}", "thread": {who}, "socket": {socket}, "bytes": {length}}}\n'


def lost_line(time_ns: int, count: int) -> str:
    """The line that says that some are missing from then on."""
    return f'{{"time_ns": {time_ns}, "way": "lost", "count": {count}}}\n'


def read_uses(content: bytes, file: str) -> tuple[Table, list[Problem]]:
    """The USES of one file's (decompressed) content, in file order, and Problems; never raises on content."""
    rows, problems = read_rows(content, file, _row, "reads and writes in JSON")
    return table_of(USES, rows), problems


def _row(entry: dict[str, Any]) -> tuple[int, ...]:
    way = _NUMBERS[entry["way"]]
    values = (entry["time_ns"], *((0, 0, entry["count"]) if way == LOST else (entry["socket"], entry["thread"], entry["bytes"])))
    for value, bits in zip(values, (63, 64, 32, 32), strict=True):
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise ValueError(value)
    return *values, way
