"""The kernel of every engine: one partition's trace in, its connections' records out."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass
from typing import IO

import numpy as np

from analysis.filters import Filters
from analysis.record_texts import RecordTexts
from analysis.records import Recorder, chunks
from analysis.summary import Tally, tally
from analysis.sums import OF_EACH_KIND, Summing, Sums
from probes.schema import Array
from tracer.affinity import Affine
from tracer.trace import Trace
from tracer.tuples import FIELDS, mix


@dataclass(slots=True)
class Stitched:
    """The connections of one partition, and sums of them if they were asked for (those are in files of their own).

    `first_ns` (i8) and `lowest` (u8) put them, row by row, into one order with those of others. `kept` (i8) are the rows that were asked
    for, in order; text[i]:text[i + 1] are bytes of the record of kept[i] as JSON, without NUMBERED. `affine` go by row.
    """

    first_ns: Array
    lowest: Array
    kept: Array
    text: Array
    tally: Tally
    affine: list[tuple[int, Affine]]
    sums: Sums | None = None

    def save(self, file: IO[bytes]) -> None:
        """Write all of it to `file`, for `load`."""
        told = json.dumps({"tally": self.tally.told(), "affine": self.affine}).encode()
        arrays = {name: getattr(self, name) for name in ("first_ns", "lowest", "kept", "text")}
        np.savez(file, allow_pickle=False, told=np.frombuffer(told, "u1"), **arrays)

    @classmethod
    def load(cls, file: IO[bytes]) -> Stitched:
        """What `save` wrote; ValueError where it is not that."""
        with np.load(file, allow_pickle=False) as kept:
            told = json.loads(kept["told"].tobytes())
            arrays = {name: kept[name] for name in ("first_ns", "lowest", "kept", "text")}
        affine: list[tuple[int, Affine]] = [(row, ((*key[:-1], tuple(key[-1])), (hi, lo))) for row, (key, (hi, lo)) in told["affine"]]
        return cls(**arrays, tally=Tally.of(told["tally"]), affine=affine)


def stitch(traced: Trace, filters: Filters, most: int | None, out: IO[bytes]) -> Stitched:
    """Write the records that `filters` accept, no more than the first `most`, to `out`; the rest of `kept` has no text."""
    first_ns, lowest = order_keys(traced)
    tests, text = filters.tests(), [np.array([out.tell()])]
    if tests:
        rows: list[int] = []
        for row, (record, its) in enumerate(Recorder(traced).both()):
            if all(test(record) for test in tests):
                if most is None or len(rows) < most:
                    out.write(its)
                    text.append(np.array([out.tell()]))
                rows.append(row)
        kept = np.array(rows, "i8")
    else:
        kept, texts = np.arange(len(traced.named)), RecordTexts(traced)  # nothing was asked of them
        for first, end in chunks(len(kept[:most])):
            written = texts.texts(first, end)
            text.append(text[-1][-1] + written.bounds[1:])
            out.write(written.text.data)
    return Stitched(first_ns, lowest, kept, np.concatenate(text), tally(traced), traced.affine)


def sum_up(traced: Trace, part: int, most: int, out: IO[bytes]) -> Stitched:
    """Sums of all connections of partition `part`, and to `out` the records of those that may be among the `most` worst."""
    first_ns, lowest = order_keys(traced)
    connections = traced.tables.connections
    total_ns = connections["end_ns"] - connections["start_ns"]
    rows = np.arange(len(total_ns))
    among_all = np.zeros(len(rows), bool)
    among_all[np.lexsort((lowest, first_ns, -total_ns))[:most]] = True
    order = zip(total_ns.tolist(), (-first_ns).tolist(), (~lowest).tolist(), (-rows).tolist(), strict=True)
    summing, longest, kept, text = Summing(), dict[int, list[tuple[int, ...]]](), list[int](), [out.tell()]
    for row, ((record, its), place, sure) in enumerate(zip(Recorder(traced).both(), order, among_all.tolist(), strict=True)):
        if _enters(longest.setdefault(summing.add(record), []), place) or sure:
            out.write(its)
            text.append(out.tell())
            kept.append(row)
    held = {"total_ns": total_ns, "first_ns": first_ns, "lowest": lowest, "part": np.full(len(rows), part), "row": rows}
    return Stitched(first_ns, lowest, np.array(kept, "i8"), np.array(text, "i8"), tally(traced), traced.affine, summing.sums(held, most))


def _enters(longest: list[tuple[int, ...]], place: tuple[int, ...]) -> bool:
    """Whether `place` is among the OF_EACH_KIND highest up to now, which are kept as a heap."""
    if len(longest) < OF_EACH_KIND:
        heapq.heappush(longest, place)
        return True
    return heapq.heappushpop(longest, place) is not place


def order_keys(traced: Trace) -> tuple[Array, Array]:
    """What orders connections (tracer.pipeline): the time (i8) of the first packet of each, and the lowest hash (u8) of its tuples."""
    tables = traced.tables
    begin = np.flatnonzero(np.diff(tables.sighting_connections, prepend=-1))  # sightings are by connection
    times, hashes = tables.observations["time_ns"][tables.sighting_rows], mix(*(tables.tuples[name] for name in FIELDS))
    if not len(begin):
        return times, hashes[:0]
    return np.minimum.reduceat(times, begin), np.minimum.reduceat(hashes[tables.sighting_tuples], begin)
