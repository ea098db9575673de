"""What every worker needs of a run, in a file of its folder: it goes through no scheduler, and is there whichever worker is lost.

Arrays lie in it as they do in memory: on one machine all workers have the same ones, and nothing of them is copied.
"""

from __future__ import annotations

import hashlib
import mmap
import pickle
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from analysis.engine.files import content_of, whole

ALIGNED_BYTES = 64  # a line of the cache
_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Parcel:
    """Where something is, and the `digest` of its first `head_bytes`: nothing else is unpickled, whoever else writes to that folder."""

    path: Path
    head_bytes: int
    digest: str

    def content(self) -> Any:
        """What was packed. The last one of a process stays in memory until it should `forget`, and is not to be changed."""
        with _turn:  # threads of one worker
            return _opened(self)


def pack(what: object, folder: Path, name: str) -> Parcel:
    """Put `what` into `folder`, which is there, in place of what had that `name` before."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(what, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    sizes = [len(array) for array in arrays]
    head = pickle.dumps((pickled, sizes, uuid4().bytes), pickle.HIGHEST_PROTOCOL)  # no two are alike
    path, end = folder / f"parcel-{name}", len(head)
    with whole(path) as out:
        out.write(head)
        for begin, array in zip(_begins(end, sizes), arrays, strict=True):
            out.write(bytes(begin - end))
            out.write(array)
            end = begin + len(array)
    return Parcel(path, len(head), _digest(head))


def forget() -> None:
    """What this process has of a parcel is not needed any more."""
    _opened.cache_clear()


@lru_cache(1)
def _opened(parcel: Parcel) -> Any:
    content = content_of(parcel.path, mmap.ACCESS_COPY)
    if _digest(content[: parcel.head_bytes]) != parcel.digest:
        raise OSError(f"{parcel.path} is not what was written there (let nobody else write to that folder)")
    pickled, sizes, _ = pickle.loads(content[: parcel.head_bytes])  # noqa: S301 - our own
    arrays = [content[begin : begin + size] for begin, size in zip(_begins(parcel.head_bytes, sizes), sizes, strict=True)]
    return pickle.loads(pickled, buffers=arrays)  # noqa: S301 - our own


def _digest(head: bytes | memoryview) -> str:
    return hashlib.blake2b(head, digest_size=16).hexdigest()


def _begins(end: int, sizes: Sequence[int]) -> Iterator[int]:
    """Where arrays of such `sizes` in bytes begin, behind `end`."""
    for size in sizes:
        begin = -(-end // ALIGNED_BYTES) * ALIGNED_BYTES
        yield begin
        end = begin + size
