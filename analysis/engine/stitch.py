"""The kernel of every engine: one partition's packets in, its connections' records out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO, BinaryIO

import numpy as np

from analysis.filters import Filters
from analysis.records import Recorder
from analysis.summary import Tally, tally
from probes.schema import Array
from tracer.affinity import Affine
from tracer.trace import Trace
from tracer.tuples import FIELDS, mix

NUMBERED = ("id", "parent", "trace")  # what a record has that depends on all the others


@dataclass(slots=True)
class Stitched:
    """The connections of one partition.

    `first_ns` (i8) and `lowest` (u8) put them, row by row, into one order with those of others. `kept` (i8) are the rows that were asked
    for, in order; text[i]:text[i + 1] are bytes of the record of kept[i] as JSON, without NUMBERED. `affine` go by row.
    """

    first_ns: Array
    lowest: Array
    kept: Array
    text: Array
    tally: Tally
    affine: list[tuple[int, Affine]]

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


def stitch(traced: Trace, filters: Filters, most: int | None, out: BinaryIO) -> Stitched:
    """Write the records that `filters` accept, no more than the first `most`, to `out`; the rest of `kept` has no text."""
    first_ns, lowest = order_keys(traced)
    recorder, tests = Recorder(traced), filters.tests()
    kept: list[int] = []
    text = [out.tell()]
    for row, record in enumerate(recorder if tests or most is None else recorder.between(0, min(most, len(recorder)))):
        if not all(test(record) for test in tests):
            continue
        if most is None or len(kept) < most:
            out.write(json.dumps({name: value for name, value in record.items() if name not in NUMBERED}).encode())
            text.append(out.tell())
        kept.append(row)
    all_kept = np.array(kept, "i8") if tests else np.arange(len(recorder))  # of the rest nothing was asked
    return Stitched(first_ns, lowest, all_kept, np.array(text, "i8"), tally(traced), traced.affine)


def order_keys(traced: Trace) -> tuple[Array, Array]:
    """What orders connections (tracer.pipeline): the time (i8) of the first packet of each, and the lowest hash (u8) of its tuples."""
    tables, count = traced.tables, len(traced.named)
    first_ns, lowest = np.full(count, np.iinfo("i8").max), np.full(count, np.iinfo("u8").max)
    np.minimum.at(first_ns, tables.sighting_connections, tables.observations["time_ns"][tables.sighting_rows])
    hashes = mix(*(tables.tuples[name] for name in FIELDS))
    np.minimum.at(lowest, tables.sighting_connections, hashes[tables.sighting_tuples])
    return first_ns, lowest
