"""Where a chunk of capture has its frames: the columns that both file formats fill for `probes.decode`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from probes.jit import inlined
from probes.schema import Array

FRAMES_PER_CHUNK = 1 << 15
MAX_FRAME_BYTES = 1 << 24  # no frame is longer; a length beyond it is a lie

# how a scan ended
NEED_MORE, FULL, CORRUPT, OTHER_BLOCK = 0, 1, 2, 3


def _column(dtype: str) -> Array:
    return field(default_factory=lambda: np.zeros(FRAMES_PER_CHUNK, dtype))  # type: ignore[no-any-return]


@dataclass(slots=True)
class Frames:
    """FRAMES_PER_CHUNK places for frames, filled from the front."""

    offsets: Array = _column("i8")  # into the window's data
    captured: Array = _column("i8")  # bytes
    wire: Array = _column("i8")  # bytes
    times: Array = _column("i8")  # ns since the epoch
    interfaces: Array = _column("i8")  # index into the file's interfaces
    directions: Array = _column("i8")
    comments: Array = _column("i8")  # offset of a comment option's text length, or -1


@inlined
def read32(data: Array, at: int, big: bool) -> int:  # noqa: FBT001 (compiled code)
    """Unsigned 32 bits in the file's byte order."""
    if big:
        return (np.int64(data[at]) << 24) | (np.int64(data[at + 1]) << 16) | (np.int64(data[at + 2]) << 8) | np.int64(data[at + 3])
    return (np.int64(data[at + 3]) << 24) | (np.int64(data[at + 2]) << 16) | (np.int64(data[at + 1]) << 8) | np.int64(data[at])


@inlined
def read16(data: Array, at: int, big: bool) -> int:  # noqa: FBT001 (compiled code)
    """Unsigned 16 bits in the file's byte order."""
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1]) if big else (np.int64(data[at + 1]) << 8) | np.int64(data[at])
