"""The table of `hopline trace`: requests under the ones they were made for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analysis.latency import SHARES
from analysis.layout import Column, begun, short
from analysis.records import Record
from analysis.terminal import STYLES, duration, nat, plain, what, who

ONLY_WIDE = ("Client", "NAT", "Time went to")
LONGEST_STATUS, SHORT_STATUS = 19, 12  # gRPC's FAILED_PRECONDITION; what fits 80 columns beside names
LEAST, MORE = 7, 22  # of names; of where time went


def style_of(status: str) -> str:
    """The colour of a request's status: of its connection's, or by what the protocol says (4xx, 5xx, errors)."""
    if status in STYLES:
        return STYLES[status]
    if status[:1] == "5" or status.startswith("error") or status in ("SERVFAIL", "INTERNAL", "UNAVAILABLE"):
        return "red"
    return "yellow" if status[:1] == "4" or status in ("NXDOMAIN", "NOT_FOUND") else "green"


COLUMNS = (
    Column("ID"),
    Column("Start", right=True),
    Column("Client", LEAST),
    Column("Operation", LEAST),
    Column("Service", LEAST),
    Column("Server", LEAST),
    Column("NAT", LEAST),
    Column("Status", style=style_of),
    Column("Total", right=True),
    Column("Time went to", MORE, cut=begun),
)


def request_table(
    records: Iterable[Record], depths: dict[str, int], first_ns: int, *, wide: bool
) -> tuple[list[Column], Iterator[list[str]]]:
    """Columns and rows of the table of `records`, whose depths below their root are `depths` by id.

    It fits 80 columns; `wide`, it says where time went. What a request is called by and how it ended is never cut.
    """
    columns = [column for column in COLUMNS if wide or column.name not in ONLY_WIDE]
    rows = (_cells(record, depths.get(record["id"], 0), first_ns, wide=wide) for record in records)
    return columns, ([row[column.name] for column in columns] for row in rows)


def _cells(record: Record, depth: int, first_ns: int, *, wide: bool) -> dict[str, str]:
    """What a row says, by column."""
    return {
        "ID": record["id"], "Start": f"{(record['start_ns'] - first_ns) / 1e9:+.3f}s", "Client": who(record["client"]),
        "Operation": f"{'  ' * (depth - 1)}└ " * (depth > 0) + plain(record["operation"] or record["protocol"]),
        "Service": what(record, brief=not wide), "Server": who(record["server"], brief=not wide), "NAT": nat(record),
        "Status": short(plain(record["status"]), LONGEST_STATUS if wide else SHORT_STATUS),
        "Total": duration(record["latency"]["total_ns"]), "Time went to": time_went(record),
    }  # fmt: skip


def time_went(record: Record) -> str:
    """Who spent a root request's time, most first: `server 61 %, network 30 %`; of another one how long its server took."""
    latency = record["latency"]
    if latency["shares"] is None:
        return "" if latency["server_ns"] is None else f"at the server {duration(latency['server_ns'])}"
    total = latency["total_ns"]
    spent = sorted(((latency["shares"][name], name) for name in SHARES), reverse=True)
    told = [f"{name} {100 * ns / total:.0f} %" for ns, name in spent if total and ns / total >= 0.01]
    return "" if told == ["unknown 100 %"] else ", ".join(told)
