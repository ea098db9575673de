"""Exchanges on connections whose protocol is not read: one side speaks, then the other."""

from __future__ import annotations

from collections.abc import Sequence

from probes.dissect.messages import Exchange

NAME = "exchange"


def turns(reply: Sequence[int], offset: Sequence[int], wire: Sequence[int], order: Sequence[int] | None = None) -> list[Exchange]:
    """The exchanges of one connection by turn-taking: what the client said, and all that the server said before the client's next word.

    A row per piece: `reply` (0 client to server, 1 server to client), `offset` (place in its stream), `wire` (bytes), sorted by time or by
    `order`. What a server says before its client is a greeting, and no exchange. Operation and status are unknown. A client that speaks
    before it has its answer makes two exchanges of one.
    """
    rows = range(len(reply)) if order is None else sorted(range(len(reply)), key=lambda row: order[row])
    found: list[Exchange] = []
    for row in rows:
        start, end = int(offset[row]), int(offset[row] + wire[row])
        if end <= start:
            continue
        last = found[-1] if found else None
        if not reply[row]:
            if last is None or last.response_start >= 0:
                last = Exchange(NAME, request_start=start)
                found.append(last)
            last.request_end = max(last.request_end, end)
        elif last is not None:
            last.response_start = start if last.response_start < 0 else last.response_start
            last.response_end = max(last.response_end, end)
    return found
