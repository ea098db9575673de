"""What files contain, as digests; one that was read before and has not changed since is not read again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

MOST_KNOWN = 20_000  # files
SETTLED_NS = 2_000_000_000  # after its last change: until then another one may leave the same times behind
_NAME = "digests.json"


class Digests:
    """SHA-256 of files (hex), remembered in `folder` by what a file system says of them.

    A file is known by its place on the disk, its size, and when its content (mtime) or anything of it (ctime, which nobody can set)
    changed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._known = self._read()
        self._new: dict[str, str] = {}

    def _read(self) -> dict[str, str]:
        try:
            known = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) and all(isinstance(each, str) for each in known.values()) else {}

    def of(self, path: Path) -> str:
        """The digest of a file's content. OSError where it cannot be read, or is no ordinary file."""
        with path.open("rb") as stream:
            before = os.fstat(stream.fileno())
            identity = _identity(before)
            if identity in self._known:
                return self._known[identity]
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            settled = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > SETTLED_NS
            if settled and _identity(os.fstat(stream.fileno())) == identity:
                self._known[identity] = self._new[identity] = digest
        return digest

    def keep(self) -> None:
        """Write what was learned, for the next time; what others wrote meanwhile stays."""
        if not self._new:
            return
        known = self._read() | self._new
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(dir=self._path.parent)
            with os.fdopen(descriptor, "w") as file:
                json.dump(dict(list(known.items())[-MOST_KNOWN:]), file)
            Path(name).replace(self._path)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
