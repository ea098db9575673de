"""Asking the ledger about one connection's tuples."""

from __future__ import annotations

import numpy as np

from probes.schema import Table
from tracer import evidence
from tracer.chains import Translation

# A NEW line is printed after its packet: 80 ms late and more under load. Before it only by what two clocks of one node may differ.
LATE_NS, EARLY_NS = 10_000_000_000, 200_000_000

Place = tuple[int, int]  # (node, tuple)
Found = dict[tuple[int, int, int], Translation]  # by (node, before, after)


class LedgerLookup:
    """Translations that nodes' ledgers hold, by the tuples seen on packets."""

    def __init__(self, entries: Table) -> None:
        self._entries = {name: column.tolist() for name, column in entries.items()}
        self._before: dict[tuple[int, int], list[int]] = {}
        self._after: dict[tuple[int, int], list[int]] = {}
        for row, place in enumerate(zip(self._entries["node"], self._entries["before"], self._entries["after"], strict=True)):
            node, before, after = place
            self._before.setdefault((node, before), []).append(row)
            if before != after:
                self._after.setdefault((node, after), []).append(row)
        self.nodes = frozenset(np.unique(entries["node"]).tolist())

    def translations(self, known: list[Translation], seen: list[Place], start_ns: int, end_ns: int) -> tuple[list[Translation], int, bool]:
        """Complete and confirm `known` (from packets) by the ledger. `seen` has (node, client's tuple) of every sighting.

        Returns the translations, the node whose own socket the client is (its tuple before NAT is never on a wire; -1 where not so), and
        whether the ledger confirms at least one of the tuples. Where packets and ledger disagree on a node, the ledger's entry counts if
        both its tuples were seen.
        """
        places = list(dict.fromkeys(seen))
        codes = {code for _, code in places}
        found, confirmed = self._between_seen(places, codes, start_ns, end_ns)
        settled = {node for node, _, _ in found}
        for translation in known:
            key = translation.node, translation.before, translation.after
            if key in found:
                found[key].evidence |= translation.evidence
            elif translation.node not in settled:
                found[key] = translation
        origin = self._add_unseen(found, places, codes, start_ns, end_ns)
        told = any(translation.evidence & evidence.CONNTRACK for translation in found.values())
        return list(found.values()), origin, confirmed or told

    def _between_seen(self, places: list[Place], codes: set[int], start_ns: int, end_ns: int) -> tuple[Found, bool]:
        """Translations of which both tuples were seen, and whether the ledger says of any tuple that it was not translated."""
        found: Found = {}
        untranslated = False
        for node, code in places:
            for row in self._before.get((node, code), ()):
                after = self._entries["after"][row]
                if not self._at(row, start_ns, end_ns):
                    continue
                untranslated = untranslated or after == code
                if after != code and after in codes:
                    found[node, code, after] = Translation(node, code, after, evidence.CONNTRACK)
        return found, untranslated

    def _add_unseen(self, found: Found, places: list[Place], codes: set[int], start_ns: int, end_ns: int) -> int:
        """Add to `found` translations of which one tuple was never on a wire; returns the node whose own socket the client is, or -1."""
        origin = -1
        for node, code in places:
            if not any(key[0] == node and key[2] == code for key in found):
                row = self._nearest(self._after.get((node, code), []), start_ns, end_ns)
                ahead = -1 if row is None else self._entries["before"][row]
                if row is not None and ahead not in codes:
                    found[node, ahead, code] = Translation(node, ahead, code, evidence.CONNTRACK)
                    origin = node
        for node, code in places:
            if not any(key[0] == node and code in key[1:] for key in found):
                rows = [row for row in self._before.get((node, code), []) if self._entries["after"][row] != code]
                row = self._nearest(rows, start_ns, end_ns)
                if row is not None:
                    behind = self._entries["after"][row]
                    found[node, code, behind] = Translation(node, code, behind, evidence.CONNTRACK)
        return origin

    def _at(self, row: int, start_ns: int, end_ns: int) -> bool:
        first = self._entries["first_ns"][row]
        return (first < 0 or first <= end_ns + LATE_NS) and bool(self._entries["last_ns"][row] >= start_ns)

    def _nearest(self, rows: list[int], start_ns: int, end_ns: int) -> int | None:
        """The one of `rows` that began when the connection did; None where that cannot be told."""
        possible = [row for row in rows if self._at(row, start_ns, end_ns)]
        if len(possible) == 1:
            return possible[0]
        began = [row for row in possible if start_ns - EARLY_NS <= self._entries["first_ns"][row] <= start_ns + LATE_NS]
        return min(began, key=lambda row: self._entries["first_ns"][row]) if began else None
