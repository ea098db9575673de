"""Where machine code is kept, in one folder per state of the sources, and who is told while it is made.

numba's cache notices a change in the file of a kernel, not in the files of the functions that the kernel calls: after an upgrade it would
run old code.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATES = 8  # of the sources, whose code is kept: those compiled last
BESIDE = "compiled"  # the folder beside the sources in which a wheel brings code (deploy/wheel.py)

started: list[str] = []  # functions that no folder had for this processor, by qualified name
tell: list[Callable[[int], None]] = []  # called with how many those are, before each is compiled


def sources(package: str, kinds: tuple[str, ...] = (".py",)) -> Iterator[Path]:
    """The files of a package that were written: what was compiled of all states of them may be many times as many."""
    for folder, inside, names in os.walk(HERE.parent / package):
        inside[:] = [name for name in inside if name not in ("__pycache__", BESIDE)]
        yield from (Path(folder, name) for name in names if name.endswith(kinds))


@functools.cache
def state() -> str:
    """The name of these sources' folders: a digest of every file that machine code may be made of."""
    digest = hashlib.blake2b(digest_size=8)
    mine, live = f"{HERE}{os.sep}", f"{HERE / 'live'}{os.sep}"
    for source in sorted(path for package in ("probes", "tracer", "analysis") for path in sources(package)):
        content = source.read_bytes()
        if b"probes.jit" in content or (str(source).startswith(mine) and not str(source).startswith(live)):
            digest.update(content)
    return f"jit-{digest.hexdigest()}"


def _takes(folder: Path) -> bool:
    """Whether `folder` can be written; it is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@functools.cache
def code_folders() -> tuple[list[Path], Path | None]:
    """Folders that may have machine code of exactly these sources, and the first of them that can be written.

    Beside the sources and in the user's cache; where NUMBA_CACHE_DIR names a folder, only there.
    """
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        found = [Path(named) / state()]
    else:
        found = [HERE / BESIDE / state()]
        users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - pathlib fails where there is no home
        if Path(users).is_absolute():
            found.append(Path(users) / "hopline" / state())
    return found, next((folder for folder in found if _takes(folder)), None)


def forget_old_states() -> None:
    """Remove machine code of all but the STATES that were written last, beside where new code is kept; whoever needs it compiles again."""
    _, kept = code_folders()
    if kept is not None:
        others = [folder for folder in kept.parent.glob(f"jit-{'[0-9a-f]' * 16}") if folder != kept]
        for folder in sorted(others, key=_written, reverse=True)[STATES - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)


def _written(folder: Path) -> float:
    """When it was; long ago where another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
