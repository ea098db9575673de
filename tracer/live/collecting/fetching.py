"""Files of a recording, from a stream of all of them that may break anywhere to a folder: complete and as they were, or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tracer.live.collecting.link import AgentError, Link
from tracer.live.errors import UnreachableError

TRIES = 3  # of one file whose content arrives changed
_NAME = re.compile(r"(?!\.)[\w.:@+-]+(/(?!\.)[\w.:@+-]+)*", re.ASCII)
Progress = Callable[[int, int], None]  # (bytes that have come, bytes of all)


class FetchError(AgentError):
    """Files that could not be fetched, though the agent answered."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A file that an agent has."""

    name: str
    size_bytes: int
    sha256: str


def offered(link: Link, recording: str) -> list[Offered]:
    """What there is to fetch, in the order in which it is sent. Raises a `ClusterError`."""
    *lines, last = link.patiently(lambda: link.objects("files", recording))
    files = []
    for line in lines:
        try:
            file = Offered(str(line["name"]), int(line["size_bytes"]), str(line["sha256"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FetchError(f"{link.agent.node}: {json.dumps(line)[:200]} is no file", "is this hopline's agent?") from error
        if not _NAME.fullmatch(file.name) or file.size_bytes < 0:  # a node is not trusted to say where its files go
            raise FetchError(f"{link.agent.node}: a file is called {file.name!r}", "nothing was fetched: no recorder names files so")
        files.append(file)
    if last.get("files") != len(files) or len({file.name for file in files}) != len(files):
        raise FetchError(f"{link.agent.node}: its list of files is not whole, or names one twice", "nothing was fetched; collect again")
    return files


def place_of(name: str, node: str) -> PurePosixPath:
    """Where a node's file goes below the node's folder: a recorder's own folder of that name is not nested once more."""
    path = PurePosixPath(name)
    return path.relative_to(node) if len(path.parts) > 1 and path.parts[0] == node else path


def fetch(link: Link, recording: str, files: list[Offered], folder: Path, progress: Progress) -> list[Path]:
    """Fetch `files` into `folder`, resuming where connections break. Those that are complete stay also where others fail.

    Raises a `ClusterError`, or OSError where the folder cannot be written.
    """
    total = sum(file.size_bytes for file in files)
    free = shutil.disk_usage(folder.parent).free
    if total > free:
        what = f"{link.agent.node}: {total:,} bytes were recorded, {free:,} are free in {folder.parent}"
        raise FetchError(what, "make room, or record less: --service, --headers-only, --sample")
    taking = _Taking(link.agent.node, files, folder)

    def attempt() -> None:
        with taking:
            for content in link.output("send", recording, "--from", str(taking.position)):
                taking.take(content)
                progress(taking.position, total)
        if not taking.complete:
            raise UnreachableError(f"{link.agent.node}: the files ended early, at byte {taking.position:,} of {total:,}", "it is resumed")

    try:
        taking.take(b"")  # empty files need no stream
        if not taking.complete:
            link.patiently(attempt)
    finally:
        taking.discard()
    return taking.paths


class _Taking:
    """Cuts the stream into files. `position` is the byte of the stream that is to come next."""

    def __init__(self, node: str, files: list[Offered], folder: Path) -> None:
        self._node, self._files, self._folder = node, files, folder
        self._number, self._begin = 0, 0  # the file that is being taken, and where in the stream it begins
        self._failures = 0
        self._digest: Any = hashlib.sha256()
        self._part: IO[bytes] | None = None
        self.position = 0
        self.paths: list[Path] = []

    @property
    def complete(self) -> bool:
        return self._number == len(self._files)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def take(self, content: bytes) -> None:
        while not self.complete:
            file = self._files[self._number]
            piece = content[: self._begin + file.size_bytes - self.position]
            content = content[len(piece) :]
            self._open(file).write(piece)
            self._digest.update(piece)
            self.position += len(piece)
            if self.position < self._begin + file.size_bytes:
                return
            self._finish(file)

    def discard(self) -> None:
        """Leave no file that is not complete."""
        if not self.complete:
            self._part_path(self._files[self._number]).unlink(missing_ok=True)

    def _path(self, file: Offered) -> Path:
        return self._folder / place_of(file.name, self._node)

    def _open(self, file: Offered) -> IO[bytes]:
        if self._part is None:
            path = self._part_path(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._part = path.open("wb" if self.position == self._begin else "ab")
        return self._part

    def _part_path(self, file: Offered) -> Path:
        path = self._path(file)
        return path.with_name(f".{path.name}.part")

    def _finish(self, file: Offered) -> None:
        self.__exit__()
        path, part = self._path(file), self._part_path(file)
        same, self._digest = self._digest.hexdigest() == file.sha256, hashlib.sha256()
        if not same:
            part.unlink()
            self.position, self._failures = self._begin, self._failures + 1
            what = f"{self._node}: {file.name} arrived changed"
            if self._failures < TRIES:
                raise UnreachableError(what, "it is sent again")
            raise FetchError(what, "the node's disk or a proxy on the way changes bytes")
        if path.exists():
            raise FetchError(f"{self._node}: two files would be {path}", "the first was kept")
        part.rename(path)
        self.paths.append(path)
        self._number, self._begin, self._failures = self._number + 1, self.position, 0
