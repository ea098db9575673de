"""A second look into a capture: the payload bytes of chosen frames, copied into one array.

Observations keep no payload. Who wants some (dissection) names frames, and gets their bytes without the file ever being in memory.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from probes.capture.gather import Gatherer
from probes.capture.reader import walk
from probes.capture.stream import ByteWindow
from probes.jit import kernel
from probes.schema import Array


@kernel
def _copy(data: Array, frames: Array, first: int, wanted: Array, at: Array, size: Array, place: Array, arena: Array, here: int) -> int:  # noqa: PLR0913, PLR0917 - columns
    """Copy what is wanted of `frames` (FRAME, numbered from `first`); `here` is the next one wanted, and is returned as it is then."""
    while here < len(wanted) and wanted[here] < first + len(frames):
        frame = frames[wanted[here] - first]
        begin = frame["offset"] + at[here]
        for index in range(size[here]):
            arena[place[here] + index] = data[begin + index]
        here += 1
    return here


class Payloads(Gatherer):
    """The payloads of a capture, read as every reader does, as far as they are asked for. OSError where it cannot be read."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        super().__init__(ByteWindow(stream, file))
        self._chunks = walk(self)
        self._count = 0  # of `frames` that are the next ones

    def read(self, frames: Array, at: Array, size: Array) -> Array:
        """The bytes (uint8) of `frames` one after the other: of each, `size` bytes from offset `at` in the frame (all int64).

        `frames` are numbers in ascending order, none lower than the last one asked for before, of a file that `read_capture` has read;
        `at + size` are within what was captured of each.
        """
        place = np.concatenate([[0], np.cumsum(size)]).astype("i8")
        arena: Array = np.zeros(int(place[-1]), np.uint8)
        wanted, at, size, here = frames.astype("i8"), at.astype("i8"), size.astype("i8"), 0
        while True:
            first = self.statistics.frames + 1
            here = _copy(self.window.data, self.frames[: self._count], first, wanted, at, size, place, arena, here)
            if here == len(wanted):
                return arena  # the next ones asked for may be in this chunk as well
            self.statistics.frames += self._count
            self._count = next(self._chunks, -1)
            if self._count < 0:
                self._count = 0
                return arena


def read_payloads(stream: BinaryIO, file: str, frames: Array, at: Array, size: Array) -> Array:
    """What `Payloads.read` gives of all `frames` at once."""
    return Payloads(stream, file).read(frames, at, size)
