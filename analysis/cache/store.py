"""The folder in which results are kept: one file each, whole or not at all, the longest unused ones leaving first.

Entries are pickles, which can do whatever their writer likes. So the folder is the user's alone (mode 0700), as the folders are in which
Python and numba keep code; one that somebody else owns or may write to is not used.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import zstandard

MOST_BYTES = 2_000_000_000  # of all entries together
MOST_OF_ENTRY = 1_000_000_000  # before compression; what is larger is not kept
SETTING = "HOPLINE_CACHE"
_OFF = "0"
_MAGIC = b"hopline found 1\n"
_SUFFIX = ".found"


class _TooLargeError(Exception):
    """An entry that is not worth its place."""


class _Packed:
    """What is written here goes to `file` compressed; `digest` is of that."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._left = file, most
        self._engine = zstandard.ZstdCompressor(level=1).compressobj()
        self.digest = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        self._left -= memoryview(content).nbytes
        if self._left < 0:
            raise _TooLargeError
        self._put(self._engine.compress(content))

    def end(self) -> None:
        self._put(self._engine.flush())

    def _put(self, packed: bytes) -> None:
        self.digest.update(packed)
        self._file.write(packed)


class Store:
    """Values by key (letters and digits). What cannot be read or is damaged is not there; what cannot be written is not kept."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES, most_of_entry: int = MOST_OF_ENTRY) -> None:
        self.folder, self._most_bytes, self._most_of_entry = folder, most_bytes, most_of_entry

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self.folder / f"{key}{_SUFFIX}"

    def load(self, key: str) -> object | None:
        """The value kept as `key`, None where there is none."""
        path = self.path(key)
        try:
            content = memoryview(path.read_bytes())
            os.utime(path)  # used just now
        except OSError:
            return None
        packed = content[len(_head(key, b"")) + hashlib.sha256().digest_size :]
        if bytes(content[: len(content) - len(packed)]) != _head(key, hashlib.sha256(packed).digest()):
            return None  # cut short, altered, or of another key: the next one takes its place
        with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            value: object = pickle.load(io.BufferedReader(stream, 1 << 20))  # noqa: S301 - our own
        return value

    def keep(self, key: str, value: object) -> None:
        """Keep `value` as `key`, unless it is too large or the disk does not take it."""
        with suppress(OSError, _TooLargeError):
            descriptor, name = tempfile.mkstemp(prefix="part-", suffix=_SUFFIX, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    self._write(file, key, value)
                Path(name).replace(self.path(key))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            self.tidy()

    def _write(self, file: IO[bytes], key: str, value: object) -> None:
        file.write(_head(key, bytes(hashlib.sha256().digest_size)))
        packed = _Packed(file, self._most_of_entry)
        pickle.dump(value, packed, protocol=5)
        packed.end()
        file.seek(0)
        file.write(_head(key, packed.digest.digest()))

    def entries(self) -> list[tuple[Path, os.stat_result]]:
        """The files of all entries, and of what somebody was stopped writing, the longest unused first."""
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(OSError):
                found.append((path, path.stat()))
        return sorted(found, key=lambda entry: entry[1].st_mtime_ns)

    def tidy(self) -> None:
        """Remove what was not used for longest, until the rest has room."""
        entries = self.entries()
        excess = sum(status.st_size for _, status in entries) - self._most_bytes
        for path, status in entries:
            if excess <= 0:
                return
            with suppress(OSError):
                path.unlink()
            excess -= status.st_size


def _head(key: str, digest: bytes) -> bytes:
    return _MAGIC + key.encode() + b"\n" + digest


def open_store() -> Store | None:
    """The user's store; None where HOPLINE_CACHE=0 says so, or where there is no folder that is the user's alone."""
    named = os.environ.get(SETTING, "")
    if named == _OFF:
        return None
    try:
        folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hopline" / "found"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # no home
        return None
    alone = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return Store(folder) if alone and os.access(folder, os.W_OK) else None
