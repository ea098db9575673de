"""The table of `hopline trace --l4-only`: connections, in the order in which they began."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analysis.layout import Column
from analysis.records import Record
from analysis.terminal import STYLES, nat, what, who

LEAST = 12  # of names


def connection_table(records: Iterable[Record], first_ns: int, *, wide: bool) -> tuple[list[Column], Iterator[list[str]]]:
    """Columns and rows of the table of `records`: without tuples and NAT it fits 80 columns, with them it is `wide`."""
    names = [Column(name, LEAST) for name in ("Client", "Service", "Server")]
    only_wide = [Column("Original, and what it became"), Column("NAT"), Column("Packets", right=True)] if wide else []
    status = Column("Status", style=lambda status: STYLES.get(status, ""))
    columns = [Column("ID"), Column("Start", right=True), *names, *only_wide, status]
    return columns, (_cells(record, first_ns, wide=wide) for record in records)


def _cells(record: Record, first_ns: int, *, wide: bool) -> list[str]:
    names = [who(record["client"], brief=not wide), what(record, brief=not wide), who(record["server"], brief=not wide)]
    row = [record["id"], f"{(record['start_ns'] - first_ns) / 1e9:+.3f}s", *names]
    if wide:
        row += [_tuples(record), nat(record).replace(", ", "\n"), f"{record['packets']['original']}/{record['packets']['reply']}"]
    return [*row, record["status"]]


def _tuples(record: Record) -> str:
    original, translated = (f"{each['src']} > {each['dst']}" if each else "?" for each in (record["original"], record["translated"]))
    return f"{record['protocol']} {original}" if original == translated else f"{record['protocol']} {original}\n  → {translated}"
