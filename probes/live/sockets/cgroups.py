"""Where in the hierarchy a cgroup is, by the id that the kernel gives: the inode of its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class Cgroups:
    """Paths below `root` (cgroup v2, mounted) by id. What was once seen stays known, also after its container ended."""

    def __init__(self, root: Path, processes: Path = Path("/proc")) -> None:
        self._root, self._processes = root, processes
        self._paths: dict[int, str | None] = dict(self._walk(root))
        self._placed: dict[int, str | None] = {}

    def path(self, cgroup: int, process: int = 0) -> str | None:
        """The path of a cgroup from the root's on ("/" for that one), None where it is not known.

        A process in v2's root is where hierarchies of v1 have it, on nodes where those place containers: `process` is asked for then.
        """
        if cgroup and cgroup not in self._paths:
            self._paths = {cgroup: None} | self._paths | dict(self._walk(self._root))  # ids are never used again: it is looked for once
        found = self._paths.get(cgroup)
        if found == "/" and process:
            if process not in self._placed:
                self._placed[process] = self._in_v1(process)
            return self._placed[process] or found
        return found

    def _walk(self, folder: Path) -> Iterator[tuple[int, str]]:
        try:
            yield folder.stat().st_ino, "/" if folder == self._root else f"/{folder.relative_to(self._root)}"
            with os.scandir(folder) as entries:
                inside = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # gone while we looked
            return
        for each in inside:
            yield from self._walk(each)

    def _in_v1(self, process: int) -> str | None:
        try:
            lines = (self._processes / str(process) / "cgroup").read_text().splitlines()
        except OSError:
            return None
        return max((line.split(":", 2)[2] for line in lines if line.count(":") >= 2), key=len, default=None)
