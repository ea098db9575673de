"""What the readers of conntrack's formats share: names of events, addresses parsed once, and how unreadable lines are reported."""

from __future__ import annotations

import numpy as np

from probes import addresses
from probes.schema import LEDGER, Problem, Table

EVENTS = {"dump": 0, "new": 1, "update": 2, "destroy": 3}  # LEDGER.event
REPLIED, ASSURED = 1, 2  # bits of LEDGER.flags
DIRECTIONS = ("original", "reply")
LAST_SECOND = (1 << 63) // 1_000_000_000 - 1  # of the epoch, in 64 bits of nanoseconds


class Addresses(dict[bytes, int]):
    """From an address as printed to its place in `parsed`; -1 where it is no address. Each spelling is parsed once."""

    def __init__(self) -> None:
        self.parsed: list[addresses.Address] = []

    def __missing__(self, text: bytes) -> int:
        try:
            address = addresses.parse(text.decode("ascii"))
        except ValueError:
            row = -1
        else:
            row = len(self.parsed)
            self.parsed.append(address)
        self[text] = row
        return row


def table(read: list[tuple[int, ...]]) -> Table:
    """A LEDGER table of rows that have its columns in order."""
    columns = zip(*read, strict=True) if read else ((),) * len(LEDGER.columns)
    return LEDGER.check({named.name: np.array(values, named.dtype) for named, values in zip(LEDGER.columns, columns, strict=True)})


def unreadable(file: str, count: int, first_line: int, expected: str) -> Problem:
    """The one Problem a file gets for all its unreadable lines."""
    lines = "1 line is" if count == 1 else f"{count} lines are"
    return Problem(
        file, f"{lines} not {expected}; the first is line {first_line}", "the other lines were used; look at that line", first_line
    )


def cut(file: str, line: int, *, used: bool) -> Problem:
    """The note on a last line that does not end in a newline."""
    what = "the last line has no end; its last field is left out" if used else "the last line has no end and is left out"
    return Problem(file, what, "the file was cut, or copied while it was written", line, "note")
