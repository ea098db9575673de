"""Asking the ledger about one connection's tuples."""

from __future__ import annotations

from probes.schema import Table
from tracer import evidence
from tracer.chains import Translation

# A NEW line is printed after its packet: 80 ms late and more under load. Before it only by what two clocks of one node may differ.
LATE_NS, EARLY_NS = 10_000_000_000, 200_000_000

Place = tuple[int, int]  # (node, tuple)
Entry = tuple[int, int, int, int]  # (first_ns, last_ns, tuple before, tuple after); see ENTRIES
Found = dict[tuple[int, int, int], Translation]  # by (node, before, after)


class LedgerLookup:
    """Translations that nodes' ledgers hold, by the tuples seen on packets."""

    def __init__(self, entries: Table) -> None:
        self._before: dict[Place, list[Entry]] = {}  # of what leaves a node as it came, too
        self._moved: dict[Place, list[Entry]] = {}
        self._after: dict[Place, list[Entry]] = {}
        columns = (entries[name].tolist() for name in ("node", "first_ns", "last_ns", "before", "after"))
        for node, first_ns, last_ns, before, after in zip(*columns, strict=True):
            entry = first_ns, last_ns, before, after
            self._before.setdefault((node, before), []).append(entry)
            if before != after:
                self._moved.setdefault((node, before), []).append(entry)
                self._after.setdefault((node, after), []).append(entry)

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
            for entry in self._before.get((node, code), ()):
                after = entry[3]
                if not _at(entry, start_ns, end_ns):
                    continue
                untranslated = untranslated or after == code
                if after != code and after in codes:
                    found[node, code, after] = Translation(node, code, after, evidence.CONNTRACK)
        return found, untranslated

    def _add_unseen(self, found: Found, places: list[Place], codes: set[int], start_ns: int, end_ns: int) -> int:
        """Add to `found` translations of which one tuple was never on a wire; returns the node whose own socket the client is, or -1."""
        origin = -1
        made = {(node, after) for node, _, after in found}
        for node, code in places:
            entries = self._after.get((node, code))
            if entries is not None and (node, code) not in made:
                entry = _nearest(entries, start_ns, end_ns)
                if entry is not None and entry[2] not in codes:
                    found[node, entry[2], code] = Translation(node, entry[2], code, evidence.CONNTRACK)
                    origin = node
        told = {(node, code) for node, *both in found for code in both}
        for node, code in places:
            entries = self._moved.get((node, code))
            if entries is not None and (node, code) not in told:
                entry = _nearest(entries, start_ns, end_ns)
                if entry is not None:
                    found[node, code, entry[3]] = Translation(node, code, entry[3], evidence.CONNTRACK)
                    told |= {(node, code), (node, entry[3])}
        return origin


def _at(entry: Entry, start_ns: int, end_ns: int) -> bool:
    """Whether an entry was there at some time from `start_ns` to `end_ns`."""
    return entry[0] <= end_ns + LATE_NS and entry[1] >= start_ns  # a beginning that is not known is negative


def _nearest(entries: list[Entry], start_ns: int, end_ns: int) -> Entry | None:
    """The one of `entries` that began when the connection did; None where that cannot be told."""
    possible = [entry for entry in entries if _at(entry, start_ns, end_ns)]
    if len(possible) == 1:
        return possible[0]
    began = [entry for entry in possible if start_ns - EARLY_NS <= entry[0] <= start_ns + LATE_NS]
    return min(began, key=lambda entry: entry[0]) if began else None
