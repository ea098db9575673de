"""Recordings kept on a node for whoever comes to fetch them: started apart from their caller, followed, handed over, removed.

A recording is a folder of the store, `NAME/`, with `bundle/` (what the recorder writes), `progress` (its standard error), `session` (the
process group it runs in, and since when) and, once it is over, `exit` (its exit code). Files alone are the state, so any process can pick
up where another was cut off: the one that started a recording may die, and the recording goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 16
START_SECONDS = 5.0  # from making the folder to having a process in it, at most
POLL_SECONDS = 0.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Lives as long as the recorder and keeps its exit code. A trap that does nothing, unlike an ignored signal, is not inherited (POSIX sh).
_KEEPER = 'trap : INT TERM; "$@"; echo $? >"$0.part"; mv "$0.part" "$0"'


class StoreError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a recording: its name below `bundle/`, its size and its SHA-256."""

    name: str
    size_bytes: int
    sha256: str


class Store:
    """The recordings below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The recordings that are here."""
        return (
            sorted(path.name for path in self.root.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)) if self.root.is_dir() else []
        )

    def start(self, name: str, command: Callable[[Path], list[str]]) -> bool:
        """Run `command` (given the folder to write to) by itself. False where the recording is here already: asking twice starts one."""
        folder = self._folder(name)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)  # it will hold payload
        except OSError as error:
            if folder.is_dir():
                return False
            raise StoreError(f"{folder} cannot be made: {error.strerror} (check --store and its free space)") from error
        (folder / "bundle").mkdir()
        with (folder / "progress").open("wb") as progress:
            keeper = ["sh", "-c", _KEEPER, str(folder / "exit"), *command(folder / "bundle")]
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(keeper, stdin=quiet, stdout=quiet, stderr=progress, start_new_session=True)
        process.returncode = 0  # it outlives this process and is never waited for, which Popen would warn about
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it may be over already
            _write_whole(folder / "session", f"{process.pid} {_started(process.pid)}")
        return True

    def code(self, name: str) -> int | None:
        """The exit code, None where there is none: it runs, or was killed."""
        with contextlib.suppress(OSError, ValueError):
            return int((self._folder(name) / "exit").read_text())
        return None

    def running(self, name: str) -> bool:
        """Whether the recording may still write."""
        folder = self._folder(name)
        if self.code(name) is not None or not folder.is_dir():
            return False
        if not (folder / "session").exists():
            return time.time() - folder.stat().st_mtime < START_SECONDS
        return self._session(name) is not None

    def lines(self, name: str, position: int) -> Iterator[bytes | None]:
        """Whole lines of the recorder's standard error from byte `position` on, as they come, until it is over; None after each silence."""
        self._existing(name)
        path, pending = self._folder(name) / "progress", b""
        path.touch()  # it may be starting
        with path.open("rb") as progress:
            progress.seek(position)
            while True:
                over = not self.running(name)  # asked first: what is written before the end is read after
                while chunk := progress.read(CHUNK_BYTES):
                    *whole, pending = (pending + chunk).split(b"\n")
                    yield from (line + b"\n" for line in whole)
                if over:
                    if pending:
                        yield pending
                    return
                yield None
                time.sleep(POLL_SECONDS)

    def stop(self, name: str, seconds: float) -> bool:
        """Have the recorder end its files, and end it after `seconds`. Whether it was running."""
        was_running = self.running(name)
        for number, patience in ((signal.SIGINT, seconds), (signal.SIGKILL, START_SECONDS)):
            deadline = time.monotonic() + patience
            group = self._session(name)
            if group is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)
            while self.running(name) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        return was_running

    def files(self, name: str) -> Iterator[StoredFile]:
        """What was recorded, in the order in which `content` gives it. StoreError while it may still change."""
        for path in self._paths(name):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield StoredFile(str(path.relative_to(self._folder(name) / "bundle")), file.tell(), digest)

    def content(self, name: str, position: int) -> Iterator[bytes]:
        """The bytes of all files, one after another in the order of `files`, from byte `position` of the whole on."""
        for path in self._paths(name):
            size = path.stat().st_size
            if position < size:
                with path.open("rb") as file:
                    file.seek(position)
                    yield from iter(lambda: file.read(CHUNK_BYTES), b"")
            position = max(position - size, 0)

    def remove(self, name: str, seconds: float) -> bool:
        """End and delete a recording. Whether it was here."""
        folder = self._folder(name)
        if not folder.exists():
            return False
        self.stop(name, seconds)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            pass  # somebody else is removing it
        except OSError as error:
            raise StoreError(f"{folder} cannot be removed: {error.strerror} (remove it by hand)") from error
        return True

    def expire(self, keep_seconds: float, now: float) -> list[str]:
        """Remove what nobody fetched for `keep_seconds` after it was over (`now`: seconds since the epoch). The names of it."""
        expired = []
        for name in self.names():
            newest = self._folder(name) / ("exit" if self.code(name) is not None else "progress")
            with contextlib.suppress(FileNotFoundError):
                age = now - (newest if newest.exists() else newest.parent).stat().st_mtime
                if age > keep_seconds and not self.running(name) and self.remove(name, 0.0):
                    expired.append(name)
        return expired

    def size_bytes(self) -> int:
        """What all recordings take."""
        total = 0
        for path in self.root.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise StoreError(f"{name!r} is no name of a recording (letters, digits, dots, dashes; at most 100)")
        return self.root / name

    def _existing(self, name: str) -> None:
        if not self._folder(name).is_dir():
            raise StoreError(f"{self._folder(name)}: no such recording (it was removed, or the pod was replaced)")

    def _paths(self, name: str) -> list[Path]:
        self._existing(name)
        if self.running(name):
            raise StoreError(f"{name} is still recording (stop it first)")
        root = self._folder(name) / "bundle"
        return sorted(
            (path for path in root.rglob("*") if path.is_file() and not path.is_symlink()), key=lambda path: path.relative_to(root)
        )

    def _session(self, name: str) -> int | None:
        """The process group, None where it is gone."""
        try:
            group, started = (self._folder(name) / "session").read_text().split()
            return int(group) if _started(int(group)) == started else None
        except (OSError, ValueError):
            return None


def _started(process: int) -> str:
    """When a process started, in clock ticks since boot: with its id, what no other process has. OSError where it is gone or a zombie."""
    # proc(5), /proc/PID/stat: the command's name, in brackets, may contain anything; the state follows it, and 19 fields later the start.
    state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    if state == "Z":
        raise ProcessLookupError(process)
    return fields[18]


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
