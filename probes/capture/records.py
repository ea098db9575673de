"""What both file formats have in common: where a chunk of capture has its frames, and how a walk over it ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.jit import big16, big32, inside, little16, little32
from probes.schema import Array

FRAMES_PER_CHUNK = 1 << 15  # with what belongs to them, some megabytes: threads meet between chunks, and waking one takes its time
MAX_FRAME_BYTES = 1 << 24  # no frame is longer; a length beyond it is a lie
NO_TIME = 0  # `time_ns` of a frame whose record has none

# how a walk ended
NEED_MORE, FULL, CORRUPT, OTHER_BLOCK, BAD_PACKET = 0, 1, 2, 3, 4

# how a search for the next sound record ended
FOUND, NOWHERE, UNDECIDED = 0, 1, 2

FRAME = np.dtype(
    [
        ("offset", "i4"),  # of its first byte, in the window
        ("captured", "i4"),  # bytes
        ("wire", "u4"),  # bytes
        ("time_ns", "i8"),  # since the epoch
        ("interface", "i4"),  # index into the file's interfaces
        ("direction", "i4"),  # as `OBSERVATIONS.direction`
        ("commented", "i4"),  # offset of the packet block that has a comment, else -1
    ]
)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface, as the file describes it. `resolution` of its timestamps: n for units of 10^-n s, -n for 2^-n s."""

    name: str | None
    link_type: int
    snaplen: int  # bytes; 0 for no limit
    resolution: int = 6
    offset_s: int = 0  # to add to its timestamps
    comment: str | None = None

    @property
    def resolution_ns(self) -> int:
        """The unit of its timestamps in ns, rounded up."""
        units_per_s = 10**self.resolution if self.resolution >= 0 else 1 << -self.resolution
        return -(-1_000_000_000 // units_per_s)


INTERFACE = np.dtype(  # the same for kernels, and what they note of its clock
    [
        ("link_type", "i8"),
        ("resolution", "i8"),
        ("offset_s", "i8"),
        ("snaplen", "i8"),
        ("last_ns", "i8"),  # time of its last frame; NO_TIME before the first
        ("jumps", "i8"),  # how often its clock went back,
        ("jump_frame", "i8"),  # where first,
        ("jump_ns", "i8"),  # and how far then
    ]
)


@inside
def read32(data: Array, at: int, big: bool) -> int:
    """Unsigned 32 bits in the file's byte order."""
    return big32(data, at) if big else little32(data, at)


@inside
def read16(data: Array, at: int, big: bool) -> int:
    """Unsigned 16 bits in the file's byte order."""
    return big16(data, at) if big else little16(data, at)
