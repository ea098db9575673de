"""The bytes behind observations, read from their captures once more."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

from probes.capture import read_payloads
from probes.schema import Array
from tracer.bundle import Bundle
from tracer.bundle_files import STANDARD_INPUT
from tracer.captures import READERS
from tracer.kept import again


def open_again(bundle: Bundle, path: Path) -> BinaryIO:
    """One of `bundle.origins` from its beginning. OSError where that cannot be."""
    if path != STANDARD_INPUT:
        return path.open("rb")
    if bundle.kept is None:
        raise OSError(errno.ESPIPE, "standard input was not kept")
    return again(bundle.kept)


def payloads(bundle: Bundle, rows: Array, skip: Array, size: Array) -> list[bytes]:
    """Of each observation in `rows` the `size` payload bytes behind `skip` (int64 each); empty where its file cannot be read again."""
    observations = bundle.observations
    files = list(dict.fromkeys(bundle.origins))
    number = {path: place for place, path in enumerate(files)}
    origins = np.array([number[path] for path in bundle.origins], "i8")
    origin, frame = origins[observations["point"][rows]], observations["frame"][rows]
    at = observations["payload_at"][rows].astype("i8") + skip
    order = np.lexsort((frame, origin))
    order = order[size[order] > 0]
    there = np.unique(origin[order]).tolist()

    def read(place: int) -> tuple[Array, bytes]:
        path, asked = files[place], order[origin[order] == place]
        try:
            with open_again(bundle, path) as stream:
                return asked, read_payloads(stream, path.name, frame[asked], at[asked], size[asked]).tobytes()
        except OSError:
            return asked, b""  # it was there a moment ago; the connections of which nothing can be read are said to be so

    found: list[bytes] = [b""] * len(rows)
    with ThreadPoolExecutor(READERS) as readers:
        for mine, arena in readers.map(read, there):
            ends = np.cumsum(size[mine])
            for row, begin, end in zip(mine.tolist(), (ends - size[mine]).tolist(), ends.tolist(), strict=True):
                found[row] = arena[begin:end]
    return found
