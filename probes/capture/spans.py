"""Spans of a file: memory for some of its bytes, used again and again, which several threads fill side by side where the file allows it."""

from __future__ import annotations

import os
import stat
import threading
from io import BufferedReader, FileIO
from typing import BinaryIO

import numpy as np

from probes.pages import HUGE_BYTES, pages, want_huge
from probes.schema import Array

REST_BYTES = 1 << 18  # of a record of usual size


class Span:
    """`memory` has REST_BYTES of room for what is left of the span before, and behind that `size` bytes of the file."""

    def __init__(self, room: int, *, huge: bool) -> None:
        memory = pages(HUGE_BYTES + room)
        if huge:
            want_huge(memory, HUGE_BYTES)
        self.memory: Array = np.frombuffer(memory, np.uint8)[HUGE_BYTES - REST_BYTES :]
        self.offset = 0  # in a plain file
        self.size = 0  # bytes; 0 at the file's end
        self.error: OSError | None = None  # why there are no more
        self.filling = threading.Lock()
        self.holders = 1

    @property
    def content(self) -> Array:
        """The memory for the file's bytes."""
        return self.memory[REST_BYTES:]

    def fill(self, descriptor: int) -> bool:
        """Read what a plain file has at `offset`: less than there is room for only at its end, or where there is an error. Whether so.

        Whoever has taken `filling` calls this, others wait for it; afterwards it may be theirs, and be filled again.
        """
        room, self.size, self.error = self.content, 0, None
        try:
            while self.size < len(room) and (read := os.preadv(descriptor, [room[self.size :].data], self.offset + self.size)):
                self.size += read
        except OSError as error:
            self.error = error
        ended = self.size < len(room)
        self.filling.release()
        return ended


class Spans:
    """Spans of `room` bytes. One that nobody holds any more is given out again. Any thread may call.

    `many` will be needed, and filled.
    """

    def __init__(self, room: int, *, many: bool) -> None:
        self._room, self._many = room, many
        self._lock = threading.Lock()  # guards all spans' holders, and
        self._free: list[Span] = []

    def empty(self, size: int = 0) -> Span:
        """A span to be filled, with one holder; with room for `size` bytes, even if these are more than `room`."""
        with self._lock:
            span = self._free.pop() if self._free and size <= self._room else Span(max(size, self._room), huge=self._many)
        span.holders = 1
        return span

    def hold(self, span: Span) -> Span:
        """One more holder of `span`."""
        with self._lock:
            span.holders += 1
        return span

    def release(self, span: Span) -> None:
        """One holder of `span` less."""
        with self._lock:
            span.holders -= 1
            if not span.holders and len(span.content) == self._room:
                self._free.append(span)


def plain_file(stream: BinaryIO) -> tuple[int, int] | None:
    """`(descriptor, position)` of a file that can be read in any order."""
    if not (isinstance(stream, BufferedReader) and isinstance(stream.raw, FileIO) and hasattr(os, "preadv")):
        return None
    return (stream.fileno(), stream.tell()) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None
