"""Connections as objects: what `analysis.record_texts` writes, read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.trace import Trace

Record = dict[str, Any]
CONFIDENT = 0.9  # joins below it are not given
CHUNK = 1 << 10  # records that are made at a time
NUMBERED = ("id", "parent", "trace")


class Recorder:
    """Turns rows of a trace into records."""

    def __init__(self, trace: Trace) -> None:
        from analysis.record_texts import RecordTexts  # noqa: PLC0415 - slow to load, and many only look at records

        self.trace, self._texts = trace, RecordTexts(trace)
        self.ends = self._texts.ends

    def __len__(self) -> int:
        return len(self.trace.named)

    def __iter__(self) -> Iterator[Record]:
        return (record for record, _ in self.both())

    def both(self) -> Iterator[tuple[Record, memoryview]]:
        """Every record, and its text without NUMBERED."""
        for first, end in chunks(len(self)):
            texts = self._texts.texts(first, end)
            for place in range(end - first):
                text = texts.row(place)
                yield _record(first + place, text), text

    def records(self, first: int, end: int) -> list[Record]:
        """Those of rows `first` to `end` of `connections`."""
        texts = self._texts.texts(first, end)
        return [_record(first + place, texts.row(place)) for place in range(end - first)]

    def record(self, connection: int) -> Record:
        """The record of one row of `connections`."""
        return self.records(connection, connection + 1)[0]


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """So many rows, some at a time."""
    return pairwise([*range(0, count, CHUNK), count])


def _record(connection: int, text: memoryview) -> Record:
    number = connection + 1
    return {"id": f"c{number}", "parent": None, "trace": f"t{number}", **json.loads(bytes(text))}
