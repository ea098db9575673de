"""Names for addresses in the kernel's text, by /proc/kallsyms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from probes.schema import Array

KALLSYMS = Path("/proc/kallsyms")
LONGEST_BYTES = 1 << 16  # a function: what lies further behind the last known one is something else's


class Symbols:
    """The functions of the kernel and its modules, read once, and again where an address is not among them: a module may be new."""

    def __init__(self, kallsyms: Path = KALLSYMS) -> None:
        self._kallsyms = kallsyms
        self._known: dict[int, str | None] = {}
        self._load()

    def _load(self) -> None:
        lines = [line for line in self._kallsyms.read_bytes().splitlines() if line[17:18] in b"tTwW"]
        starts = np.array([int(line[:16], 16) for line in lines], "u8")
        order = np.argsort(starts, kind="stable")
        self._starts: Array = starts[order]
        names = [lines[row][19:].partition(b"\t")[0] for row in order.tolist()]
        self._ends: Array = np.cumsum([len(name) for name in names], dtype="u4")
        self._names = b"".join(names)

    def names(self, addresses: Iterable[int]) -> dict[int, str | None]:
        """`function+0x1f` for each address; None where the kernel does not tell (where kptr_restrict is set, it tells CAP_SYSLOG alone)."""
        wanted = sorted(set(addresses))
        new = [address for address in wanted if address not in self._known]
        found = self._look_up(new)
        if None in found:
            self._load()
            found = self._look_up(new)
        self._known |= dict(zip(new, found, strict=True))
        return {address: self._known[address] for address in wanted}

    def _look_up(self, addresses: list[int]) -> list[str | None]:
        places = np.searchsorted(self._starts, np.array(addresses, "u8"), "right") - 1
        return [self._name(address, place) for address, place in zip(addresses, places.tolist(), strict=True)]

    def _name(self, address: int, place: int) -> str | None:
        start = int(self._starts[place]) if place >= 0 else 0
        if not start or address - start >= LONGEST_BYTES:
            return None
        begin = int(self._ends[place - 1]) if place else 0
        return f"{self._names[begin : int(self._ends[place])].decode()}+{address - start:#x}"
