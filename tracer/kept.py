"""What came from standard input, kept in a file, as often as it is needed."""

from __future__ import annotations

import io
import os
from typing import IO, BinaryIO, cast


class _Again(io.RawIOBase):
    """A file from its beginning, at a place of its own: descriptors of one file share theirs, also with forked processes."""

    def __init__(self, kept: IO[bytes]) -> None:
        self._descriptor, self._place = os.dup(kept.fileno()), 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = os.pread(self._descriptor, len(buffer), self._place)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def again(kept: IO[bytes]) -> BinaryIO:
    """The bytes of `kept`, whoever else reads them."""
    return cast("BinaryIO", io.BufferedReader(_Again(kept), 1 << 20))
