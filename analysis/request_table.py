"""The table of `hopline trace`: requests under the ones they were made for."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from analysis.latency import SHARES
from analysis.records import Record
from analysis.terminal import STYLES, WIDE, duration, nat, plain, short, what, who

COLUMNS = ("ID", "Start", "Client", "Operation", "Service", "Server", "NAT", "Status", "Total", "Time went to")
ONLY_WIDE = ("Client", "NAT", "Time went to")
WHOLE = ("ID", "Start", "Status", "Total")
LONGEST_STATUS, SHORT_STATUS = 19, 12  # gRPC's FAILED_PRECONDITION; what fits 80 columns beside names
LEAST, MORE = 7, 8  # of names; for where time went


def style_of(status: str) -> str:
    """The colour of a request's status: of its connection's, or by what the protocol says (4xx, 5xx, errors)."""
    if status in STYLES:
        return STYLES[status]
    if status[:1] == "5" or status.startswith("error") or status in ("SERVFAIL", "INTERNAL", "UNAVAILABLE"):
        return "red"
    return "yellow" if status[:1] == "4" or status in ("NXDOMAIN", "NOT_FOUND") else "green"


def request_table(records: Sequence[Record], depths: dict[str, int], first_ns: int, width: int) -> Table:
    """The table of `records`, whose depths below their root are `depths` by id: fits 80 columns, says where time went from WIDE on.

    Names are shortened to what the columns that are never cut (WHOLE) leave of `width`.
    """
    wide = width >= WIDE
    rows = [_cells(record, depths.get(record["id"], 0), first_ns, wide=wide) for record in records]
    names = [name for name in COLUMNS if wide or name not in ONLY_WIDE]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=False)
    for name in names:
        table.add_column(name, no_wrap=True, justify="right" if name in ("Start", "Total") else "left")
    taken = sum(max((cell_len(row[name]) for row in rows), default=0) for name in WHOLE) + 3 * len(names)
    left = (width - taken - (MORE if wide else 0)) // (len(names) - len(WHOLE))
    room = max(LEAST, min(left, max(9, (width - 62) // 6 if wide else (width - 45) // 3)))
    for record, row in zip(records, rows, strict=True):
        style = style_of(record["status"])
        cells = {name: text if name in WHOLE else short(text, room + (MORE if name == "Time went to" else 0)) for name, text in row.items()}
        table.add_row(*(Text(cells[name], style if name == "Status" else "") for name in names))
    return table


def _cells(record: Record, depth: int, first_ns: int, *, wide: bool) -> dict[str, str]:
    """What a row says, by COLUMNS."""
    return {
        "ID": record["id"], "Start": f"{(record['start_ns'] - first_ns) / 1e9:+.3f}s", "Client": who(record["client"]),
        "Operation": f"{'  ' * (depth - 1)}└ " * (depth > 0) + plain(record["operation"] or record["protocol"]),
        "Service": what(record, brief=not wide), "Server": who(record["server"], brief=not wide), "NAT": nat(record),
        "Status": short(plain(record["status"]), LONGEST_STATUS if wide else SHORT_STATUS),
        "Total": duration(record["latency"]["total_ns"] or None), "Time went to": time_went(record),
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
