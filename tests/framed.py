"""The samples' requests, records and tables, once per run; and as many of them as a test wants."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from conftest import traced_sample

from analysis.frames import Frames, frames
from analysis.requests import RequestRecorder
from tracer.requests import RequestTrace, trace_requests

Record = dict[str, Any]


@cache
def found_in(sample: Path) -> RequestTrace:
    return trace_requests(traced_sample(sample))


@cache
def frames_of(sample: Path) -> Frames:
    return frames(found_in(sample))


@cache
def records_of(sample: Path) -> tuple[list[Record], list[Record]]:
    recorder = RequestRecorder(found_in(sample))
    return list(recorder.connections), list(recorder)


def many(sample: Path, wanted: int) -> tuple[list[Record], list[Record]]:
    """The records of `sample` over and over with ids of their own, until there are `wanted` requests."""
    connections, requests = records_of(sample)
    times = range(-(-wanted // len(requests)))

    def again(record: Record, n: int) -> Record:
        renamed = {key: f"{record[key][0]}{n:05}{record[key][1:]}" for key in ("id", "connection", "trace", "parent") if record.get(key)}
        return record | renamed

    return [again(each, n) for n in times for each in connections], [again(each, n) for n in times for each in requests][:wanted]
