"""A file of JSON lines that grows by whole lines, under the recording's budget: a full disk costs lines, never the file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from probes.live.budget import Budget


class Lines:
    """The file at `path`, made or continued."""

    def __init__(self, path: Path, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, objects: Sequence[dict[str, Any]]) -> int:
        """Append one line per object: all of them, or none where budget or disk have no room. How many were written."""
        return self.write_text([f"{json.dumps(each)}\n" for each in objects])

    def write_text(self, lines: Iterable[str]) -> int:
        """The same for lines that are made already, each with its newline."""
        lines = list(lines)
        content = "".join(lines).encode()
        if not content or not self._budget.take(len(content)):
            return 0
        try:
            written = os.write(self._descriptor, content)
        except OSError:
            written = 0
        if written < len(content):
            self._budget.give(len(content))
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            return 0
        self._size += written
        return len(lines)

    def close(self) -> None:
        """Write no more."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
