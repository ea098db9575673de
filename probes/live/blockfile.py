"""A file that grows by whole pcapng blocks only: in one write each time, cut back where the disk had no room for all of it."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from probes.live.pcapng import whole_blocks
from probes.schema import Array


class BlockFile:
    """A new file, open for writing. OSError where it cannot be made, or is there already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # bytes
        self.described = 0  # interfaces
        self.held = 0  # bytes of the budget, kept for its statistics
        self.frames = 0
        self.first_ns = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def append(self, head: bytes, blocks: Array) -> int:
        """Write `head` and `blocks` (u1); how many bytes of whole blocks are kept. OSError where nothing is."""
        try:
            done = os.writev(self._descriptor, [head, blocks.data])
        except OSError:
            self._cut()
            raise
        kept = done - len(head)
        if kept < len(blocks):
            kept = whole_blocks(blocks, 0, kept)[0]
        if done < len(head) or (len(blocks) and not kept):
            self._cut()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += len(head) + kept
        if kept < len(blocks):
            self._cut()
        return kept

    def _cut(self) -> None:
        with contextlib.suppress(OSError):  # else the file ends in the midst of a block, which readers notice
            os.ftruncate(self._descriptor, self.size)

    def removed(self) -> bool:
        """Whether somebody deleted the file."""
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        """Write no more. An empty file is not kept."""
        with contextlib.suppress(OSError):  # what a network's file system says only now, it says of no packets in particular
            os.close(self._descriptor)
        if not self.size:
            with contextlib.suppress(OSError):
                self.path.unlink()
