"""Conntrack lines into entries with lifetimes, and what they say of a connection's tuples."""

from __future__ import annotations

import numpy as np
import pytest

from probes.conntrack import read_ledger
from probes.schema import Table
from tracer import evidence
from tracer.chains import Translation
from tracer.ledger import FOREVER_NS, entries, ledger_tuples
from tracer.ledger_lookup import LATE_NS, completed, held
from tracer.places import Places
from tracer.schema import ENTRIES, TUPLES
from tracer.tuples import code_tuples

S = 1_000_000_000
NODE = 4
DNAT = "src=10.0.0.1 dst=10.96.0.1 sport={port} dport=80 src=10.0.0.2 dst=10.0.0.1 sport=8080 dport={port}"


def line(second: float | None, event: str, port: int = 1000, number: int | None = None, target: str = "10.0.0.2") -> str:
    """A line of `conntrack -E -o timestamp,id`, or of `-L` where `second` is None."""
    stamp = "" if second is None else f"[{second:.6f}]\t [{event}] "
    suffix = "" if number is None else f" id={number}"
    return f"{stamp}tcp      6 60 ESTABLISHED {DNAT.format(port=port).replace('10.0.0.2', target)} [ASSURED]{suffix}\n"


def entries_of(*lines: str) -> Table:
    ledger, problems = read_ledger("".join(lines).encode(), "node-a.conntrack.txt")
    assert problems == []
    before, after = ledger_tuples(ledger)
    _, codes = code_tuples([(table, np.arange(len(table["proto"]))) for table in (before, after)])
    return entries([ledger], [NODE], codes[:1], codes[1:])


def lifetimes(table: Table) -> list[tuple[int, int]]:
    ends = [-1 if last == FOREVER_NS else last // S for last in table["last_ns"].tolist()]
    return sorted(zip([first // S if first >= 0 else -1 for first in table["first_ns"].tolist()], ends, strict=True))


CASES: tuple[tuple[str, list[str], list[tuple[int, int]]], ...] = (
    ("nothing", [], []),
    ("a dump's entry was there before and stays", [line(None, "", number=7)], [(-1, -1)]),
    ("from NEW to DESTROY", [line(10, "NEW", number=7), line(11, "UPDATE", number=7), line(20, "DESTROY", number=7)], [(10, 20)]),
    ("the NEW was lost", [line(11, "UPDATE", number=7), line(20, "DESTROY", number=7)], [(-1, 20)]),
    ("still there at the end", [line(10, "NEW", number=7), line(None, "", number=7)], [(10, -1)]),
    ("one port after the other, by id", [line(10, "NEW", 1000, 7), line(10, "NEW", 1001, 8)], [(10, -1), (10, -1)]),
    ("the tuple reused, by id", [line(10, "NEW", 1000, 7), line(20, "DESTROY", 1000, 7), line(30, "NEW", 1000, 9)], [(10, 20), (30, -1)]),
    ("the tuple reused, without ids", [line(10, "NEW"), line(30, "NEW")], [(10, 30), (30, -1)]),
    (
        "another endpoint for the same tuple ends the first",
        [line(10, "NEW", target="10.0.0.2"), line(30, "NEW", target="10.0.0.3")],
        [(10, 30), (30, -1)],
    ),
)


@pytest.mark.parametrize(("lines", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_lifetimes_of_entries(lines: list[str], expected: list[tuple[int, int]]) -> None:
    assert lifetimes(entries_of(*lines)) == expected


def test_lines_in_any_order_are_the_same_entries() -> None:
    lines = [line(10, "NEW", 1000, 7), line(20, "DESTROY", 1000, 7), line(30, "NEW", 1000, 9), line(31, "NEW", 1001, 10)]
    assert lifetimes(entries_of(*reversed(lines))) == lifetimes(entries_of(*lines))


def lookup(*rows: tuple[int, int, int, int, int]) -> Table:
    """Entries by (node, before, after, first, last), times in seconds, -1 where unknown."""
    table = ENTRIES.empty()
    columns = zip(*rows, strict=True) if rows else [[]] * 5
    for name, values in zip(("node", "before", "after", "first_ns", "last_ns"), columns, strict=True):
        times = np.array(values, "i8")
        table[name] = (
            times * S if name == "first_ns" else np.where(times < 0, FOREVER_NS, times * S) if name == "last_ns" else times
        ).astype(table[name].dtype)
    return ENTRIES.check(table | {"id": np.full(len(rows), -1, "i8")})


def told(
    ledger: Table, known: list[Translation], seen: list[tuple[int, int]], start_ns: int, end_ns: int
) -> tuple[list[Translation], int, bool]:
    """The translations of a connection with these places, the node whose own socket the client is, and whether the ledger has any of it.

    Beside it stands one that is like it but for the time: long before.
    """
    node, code = (np.array([*column, *column], "i8") for column in zip(*seen, strict=True))
    none = np.zeros(len(node), "i8")
    places = Places(np.array([0, len(seen), len(node)]), none, node, code, none, none, none, none, none.astype(bool))
    found = held(ledger, places, ENDS, np.array([-(1 << 60), start_ns]), np.array([-(1 << 60), end_ns]))
    each = found.told(len(seen), len(node), code)
    steps, origin = completed(known, seen, each)
    return steps, origin, any(one.kept for one in each) or any(step.evidence & evidence.CONNTRACK for step in steps)


A, B, C, HALF = 1, 2, 3, 4
ENDS = TUPLES.check({column.name: np.zeros(5, column.dtype) for column in TUPLES.columns} | {
    "sport": np.array([0, A, B, C, A], "u2"), "dport": np.array([0, A, B, C, B], "u2"),
})  # fmt: skip
SEEN = Translation(NODE, A, B, evidence.ISN)
LOOKUPS: tuple[tuple[str, Table, list[Translation], list[tuple[int, int]], list[tuple[int, int, int, int]], int, bool], ...] = (
    ("no ledger", lookup(), [SEEN], [(NODE, A), (NODE, B)], [(NODE, A, B, evidence.ISN)], -1, False),
    (
        "confirmed",
        lookup((NODE, A, B, 10, -1)),
        [SEEN],
        [(NODE, A), (NODE, B)],
        [(NODE, A, B, evidence.ISN | evidence.CONNTRACK)],
        -1,
        True,
    ),
    ("told by the ledger alone", lookup((NODE, A, B, 10, -1)), [], [(NODE, A), (NODE, B)], [(NODE, A, B, evidence.CONNTRACK)], -1, True),
    (
        "packets the wrong way round",
        lookup((NODE, B, A, 10, -1)),
        [SEEN],
        [(NODE, A), (NODE, B)],
        [(NODE, B, A, evidence.CONNTRACK)],
        -1,
        True,
    ),
    ("another node's entry", lookup((9, A, B, 10, -1)), [SEEN], [(NODE, A), (NODE, B)], [(NODE, A, B, evidence.ISN)], -1, False),
    ("over long ago", lookup((NODE, A, B, 1, 2)), [], [(NODE, A), (NODE, B)], [], -1, False),
    ("not yet", lookup((NODE, A, B, 40, -1)), [], [(NODE, A), (NODE, B)], [], -1, False),
    ("not translated", lookup((NODE, A, A, 10, -1)), [], [(NODE, A)], [], -1, True),
    (
        "the node's own call: before is on no wire",
        lookup((NODE, A, B, 10, -1)),
        [],
        [(NODE, B)],
        [(NODE, A, B, evidence.CONNTRACK)],
        NODE,
        True,
    ),
    ("the far side was not captured", lookup((NODE, A, B, 10, -1)), [], [(NODE, A)], [(NODE, A, B, evidence.CONNTRACK)], -1, True),
    (
        "packets saw it halfway",
        lookup((NODE, A, B, 10, -1)),
        [Translation(NODE, A, HALF, evidence.ISN)],
        [(NODE, A), (NODE, HALF)],
        [(NODE, A, B, evidence.CONNTRACK)],
        -1,
        True,
    ),
    (
        "an entry of another lifetime",
        lookup((NODE, A, B, 10, -1)),
        [Translation(NODE, A, C, evidence.ISN)],
        [(NODE, A), (NODE, C)],
        [(NODE, A, C, evidence.ISN)],
        -1,
        False,
    ),
    ("which of two beginnings cannot be told", lookup((NODE, A, B, -1, -1), (NODE, C, B, -1, -1)), [], [(NODE, B)], [], -1, False),
    (
        "the one of two that began now",
        lookup((NODE, A, B, 10, -1), (NODE, C, B, -1, -1)),
        [],
        [(NODE, B)],
        [(NODE, A, B, evidence.CONNTRACK)],
        NODE,
        True,
    ),
)


@pytest.mark.parametrize(
    ("ledger", "known", "seen", "steps", "origin", "confirmed"), [case[1:] for case in LOOKUPS], ids=[case[0] for case in LOOKUPS]
)
def test_what_a_ledger_says_of_tuples(
    ledger: Table,
    known: list[Translation],
    seen: list[tuple[int, int]],
    steps: list[tuple[int, int, int, int]],
    origin: int,
    confirmed: bool,
) -> None:
    copies = [Translation(step.node, step.before, step.after, step.evidence) for step in known]
    found, where, has_it = told(ledger, copies, seen, 10 * S, 12 * S)
    assert [(step.node, step.before, step.after, step.evidence) for step in found] == steps
    assert (where, has_it) == (origin, confirmed)


def test_lines_are_printed_late() -> None:
    ledger = lookup((NODE, A, B, 12, -1))
    assert told(ledger, [], [(NODE, A), (NODE, B)], 3 * S, 3 * S)[0]
    assert not told(ledger, [], [(NODE, A), (NODE, B)], 12 * S - LATE_NS - S, 12 * S - LATE_NS - S)[0]
