"""The captures of a bundle in memory, each in a table of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probes.capture import Capture, read_capture
from probes.schema import Problem, Table
from tracer.bundle_files import CaptureFile, unopened

if TYPE_CHECKING:
    from tracer.bundle import Bundle, Opened

READERS = 2  # each decodes in several threads


@dataclass(slots=True)
class Packets:
    """What the captures of a bundle have, each by itself, beside the file of each; and what is said of those that cannot be opened."""

    captures: list[Capture]
    paths: list[Path]
    problems: list[Problem]

    @property
    def first_points(self) -> list[int]:
        """The number that point 0 of each capture has among those of all."""
        counts = (len(capture.points) for capture in self.captures[:-1])
        return [0, *itertools.accumulate(counts)] if self.captures else []

    def complete(self, opened: Opened, observations: Table) -> Bundle:
        """The bundle with what the captures gave, `observations` aside."""
        return opened.complete(
            observations, [point for capture in self.captures for point in capture.points],
            [path for path, capture in zip(self.paths, self.captures, strict=True) for _ in capture.points],
            {capture.file: capture.statistics for capture in self.captures},
            [*self.problems, *(problem for capture in self.captures for problem in capture.problems)],
        )  # fmt: skip


def read_captures(opened: Opened, progress: Callable[[str, int], None]) -> Packets:
    """Read all captures of a bundle into memory, each into a table of its own."""
    problems: list[Problem] = []

    def read(file: CaptureFile) -> Capture | None:
        try:
            stream = opened.stream(file)
        except OSError as error:
            problems.append(unopened(file.path, error))
            return None
        with stream:
            return read_capture(stream, file.name, file.node, lambda position: progress(str(file.path), position))

    with ThreadPoolExecutor(READERS) as readers:
        read_files = zip(opened.captures, readers.map(read, opened.captures), strict=True)
        found = [(file.path, capture) for file, capture in read_files if capture is not None]
    return Packets([capture for _, capture in found], [path for path, _ in found], problems)
