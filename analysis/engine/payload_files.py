"""Payloads beside the packets of a partition, where requests are asked for: captures are not read once more for each partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from probes.capture import Payloads
from probes.decode.numbers import PACKET, TCP, UDP
from probes.schema import Array, Table, size
from tracer.bundle_files import afresh
from tracer.partitions import Cut

AT_ONCE = 1 << 26  # bytes
SCHEMA = pa.schema([("payload", pa.binary())])


class PayloadWriter:
    """Writes the payloads of a capture, whose bytes come from `stream` once more, to `files`, one for each partition."""

    def __init__(self, stream: BinaryIO, name: str, files: Sequence[BinaryIO], options: pa.ipc.IpcWriteOptions) -> None:
        self._payloads = Payloads(stream, name)
        self._writers = [pa.ipc.new_file(file, SCHEMA, options=options) for file in files]

    def add(self, table: Table, cut: Cut) -> None:
        """Those of the next observations, which are `cut`."""
        wanted = _captured(table)
        ends, rows, first = np.cumsum(wanted), [cut.rows(part) for part in range(len(self._writers))], 0
        while first < size(table):
            before = int(ends[first] - wanted[first])
            end = max(first + 1, int(np.searchsorted(ends, before + AT_ONCE, side="right")))
            content = self._read(table, wanted, first, end)
            for mine, writer in zip(rows, self._writers, strict=True):
                here = mine[slice(*np.searchsorted(mine, [first, end]))]
                if len(here):
                    writer.write_batch(pa.record_batch([content.take(pa.array(here - first))], schema=SCHEMA))
            first = end

    def _read(self, table: Table, wanted: Array, first: int, end: int) -> pa.Array:
        asked = first + np.flatnonzero(wanted[first:end])
        arena = self._payloads.read(table["frame"][asked], table["payload_at"][asked], wanted[asked])
        offsets = np.concatenate([[0], np.cumsum(wanted[first:end])]).astype("i4")
        return pa.Array.from_buffers(pa.binary(), end - first, [None, pa.py_buffer(offsets), pa.py_buffer(arena)])

    def close(self) -> None:
        """All is there."""
        for writer in self._writers:
            writer.close()


def _captured(table: Table) -> Array:
    """How many bytes (int64) of payload there are of each observation that is looked into."""
    behind = table["captured_bytes"].astype("i8") - table["payload_at"]
    looked_into = (table["view"] == PACKET) & np.isin(table["proto"], (TCP, UDP)) & (table["payload_at"] > 0)
    return np.where(looked_into, np.clip(np.minimum(behind, table["payload_bytes"]), 0, None), 0)


def payloads_of(files: Sequence[Path], rows: Array, skip: Array, wanted: Array) -> list[bytes]:
    """What `tracer.requests.payloads` gives, of the observations of a partition, whose payloads are in `files`."""
    found: list[bytes] = [b""] * len(rows)
    order, done, before = np.argsort(rows, kind="stable"), 0, 0
    for batch in (batch for file in files for batch in _batches(afresh(file))):
        end = int(np.searchsorted(rows, before + len(batch), sorter=order))
        _, offsets, content = batch.buffers()
        starts, asked = np.frombuffer(offsets, "i4"), order[done:end]
        begin = starts[batch.offset + rows[asked] - before] + skip[asked]
        view = memoryview(content) if content is not None else memoryview(b"")
        for place, start, stop in zip(asked.tolist(), begin.tolist(), (begin + wanted[asked]).tolist(), strict=True):
            found[place] = bytes(view[start:stop])
        done, before = end, before + len(batch)
    return found


def _batches(path: Path) -> Iterator[pa.Array]:
    alone = pa.ipc.IpcReadOptions(use_threads=False)  # other partitions have the other processors
    with path.open("rb") as file, pa.ipc.open_file(file, options=alone) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number).column("payload")
