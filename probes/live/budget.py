"""How many bytes one recording may keep on disk, over all its files, and which of them go when that is reached."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WhenFull = Literal["delete", "stop"]


@dataclass(frozen=True, slots=True, order=True)
class Closed:
    """A file that nobody writes to any more, and so may be deleted."""

    last_ns: int  # of what is in it, or when it was last written
    path: Path
    size: int


class Budget:
    """Everybody who writes asks `take` first. `limit_bytes` None is no limit but the disk's own.

    Where a limit or the disk is full, the oldest of the `closed` files are deleted ("delete"), or nothing more is granted ("stop"): then
    `stopped` is true from the first refusal on, so that what is on disk has one end.
    """

    def __init__(self, limit_bytes: int | None = None, when_full: WhenFull = "delete") -> None:
        self.limit_bytes, self.when_full = limit_bytes, when_full
        self.used = 0  # bytes
        self.stopped = False
        self.deleted = 0  # files,
        self.deleted_until_ns = 0  # and the time up to which what they held is missing
        self._closed: list[Closed] = []
        self._earlier: list[Closed] = []  # by their own clock; before all others
        self._deletable = 0  # bytes

    def take(self, size: int) -> bool:
        """Whether `size` more bytes may be written; they count as used then."""
        while not self.stopped and self.limit_bytes is not None and self.used + size > self.limit_bytes:
            if self.when_full == "stop":
                self.stopped = True
            elif self.used + size - self._deletable > self.limit_bytes or not self.delete_oldest():
                return False  # and nothing was deleted that would not have sufficed
        if self.stopped:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """Bytes that were taken are not used after all."""
        self.used -= size

    def closed(self, file: Closed) -> None:
        """`file`, whose bytes have been taken, may be deleted from now on."""
        heapq.heappush(self._closed, file)
        self._deletable += file.size

    def adopt(self, file: Closed) -> None:
        """`file` was there before this recording: it counts, and is deleted before all of this one's."""
        heapq.heappush(self._earlier, file)
        self._deletable += file.size
        self.used += file.size

    def delete_oldest(self) -> bool:
        """Delete the oldest closed file; False where there is none, or none may be deleted."""
        while self.when_full == "delete" and (files := self._earlier or self._closed):
            oldest = heapq.heappop(files)
            self._deletable -= oldest.size
            try:
                oldest.path.unlink(missing_ok=True)
            except OSError:  # it stays, and its bytes count on
                continue
            self.used -= oldest.size
            self.deleted, self.deleted_until_ns = self.deleted + 1, max(self.deleted_until_ns, oldest.last_ns)
            return True
        return False
