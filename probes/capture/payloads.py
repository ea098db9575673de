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


class _Payloads(Gatherer):
    """Reads a file as every reader does, and copies instead of decoding."""

    def __init__(self, window: ByteWindow, wanted: Array, at: Array, size: Array) -> None:
        super().__init__(window)
        self._wanted, self._at, self._sizes = wanted, at, size
        self._place = np.concatenate([[0], np.cumsum(size)]).astype("i8")
        self._here = 0
        self.arena: Array = np.zeros(int(self._place[-1]), np.uint8)

    def copy(self, count: int) -> None:
        """Copy what is wanted of the first `count` of `frames`."""
        first = self.statistics.frames + 1
        frames = self.frames[:count]
        self._here = _copy(self.window.data, frames, first, self._wanted, self._at, self._sizes, self._place, self.arena, self._here)
        self.statistics.frames += count


def read_payloads(stream: BinaryIO, file: str, frames: Array, at: Array, size: Array) -> Array:
    """The bytes (uint8) of `frames` one after the other: of each, `size` bytes from offset `at` in the frame (all int64, by frame number).

    `frames` must be of a file that `read_capture` has read, `at + size` within what was captured of each. OSError where it cannot be read.
    """
    payloads = _Payloads(ByteWindow(stream, file), frames.astype("i8"), at.astype("i8"), size.astype("i8"))
    for count in walk(payloads):
        payloads.copy(count)
    return payloads.arena
