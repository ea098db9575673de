"""Where a request's time went: its parts in order, and every nanosecond of a whole tree given to who spent it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.schema import Array, Table

if TYPE_CHECKING:  # whoever shows records needs none of it
    from analysis.ends import Ends

Record = dict[str, Any]
DATABASES = frozenset({"mysql", "postgresql", "redis", "mongodb", "kafka", "amqp", "nats"})
SHARES = ("network", "proxy", "server", "database", "dns", "unknown")


@dataclass(frozen=True, slots=True)
class Doors:
    """When a request passed both ends' doors (int ns on the reference clock; None: not seen), and whose time is spent at the server's."""

    start: int
    arrival: int | None
    done: int | None
    end: int
    role: str


def part(kind: str, node: str | None, start: int, end: int, uncertainty: int | None, **more: object) -> Record:
    """One part of `latency.parts`; one that is smaller than what its clocks may be off is not separable."""
    separable = uncertainty is not None and end - start > uncertainty
    return {"kind": kind, "node": node, "start_ns": start, "end_ns": end, "uncertainty_ns": uncertainty, "separable": separable, **more}


def journey(doors: Doors, client: str | None, server: str | None, uncertainty: int | None, resolution: int) -> list[Record]:
    """The parts that make up the whole: to the server, there, and back."""
    if doors.arrival is None or doors.done is None:
        return []
    return [
        part("request-network", client, doors.start, doors.arrival, uncertainty),
        part("server", server, doors.arrival, doors.done, resolution),
        part("response-network", server, doors.done, doors.end, uncertainty),
    ]


def rewritings(ends: Ends, hops: Table, owners: Array, time_ns: Array) -> dict[int, list[tuple[int, int, int]]]:
    """Where packets that asked were rewritten: node and times of the last sighting before and the first behind it, by owner of hops."""
    asked = np.flatnonzero(hops["reply"] == 0)
    before, after = asked[:-1], asked[1:]
    code, node = hops["tuple"], hops["node"]
    same = ends.same(code[before], "src", code[after], "src") & ends.same(code[before], "dst", code[after], "dst")
    at = np.flatnonzero(~same & (node[before] == node[after]) & (owners[before] == owners[after]))
    found: dict[int, list[tuple[int, int, int]]] = {}
    columns = owners[before[at]], node[before[at]], time_ns[before[at]], time_ns[after[at]]
    for owner, *rest in zip(*(column.tolist() for column in columns), strict=True):
        found.setdefault(owner, []).append(tuple(rest))
    return found


def covered(spans: Iterable[tuple[int, int]], start: int, end: int) -> int:
    """How much (ns) of `start` to `end` at least one of `spans` covers."""
    total, reached = 0, start
    for begin, finish in sorted(spans):
        begin, finish = max(begin, reached), min(finish, end)  # noqa: PLW2901 - the part of it that counts
        if finish > begin:
            total += finish - begin
            reached = finish
    return total


def shares(root: int, doors: Callable[[int], Doors], children: Callable[[int], Sequence[int]]) -> dict[str, int]:
    """Who spent the time of `root`'s tree (ns by SHARES): what passes while a child is under way is the child's, first come first."""
    spent = dict.fromkeys(SHARES, 0)
    waiting = [(root, doors(root).start, doors(root).end)]
    while waiting:
        request, low, high = waiting.pop()
        mine = doors(request)
        known = mine.arrival is not None and mine.done is not None
        arrival, done = (mine.arrival, mine.done) if known else (low, high)
        assert arrival is not None
        assert done is not None
        arrival, done = min(max(arrival, low), high), min(max(done, low), high)
        spent["network"] += arrival - low + high - max(done, arrival)
        here = arrival
        own = mine.role if known else "unknown"
        for child in sorted(children(request), key=lambda each: doors(each).start):
            begin, finish = max(doors(child).start, here), min(doors(child).end, done)
            if finish > begin:
                spent[own] += begin - here
                waiting.append((child, begin, finish))
                here = finish
        spent[own] += max(done - here, 0)
    return spent
