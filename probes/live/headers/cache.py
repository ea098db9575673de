"""Folders that are made once and kept between runs: whole or not there, and nobody else's."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


class HeaderError(Exception):
    """The types that are wanted cannot be learnt, or there is no place to keep them; the message names the remedy."""


def kept(name: str, key: bytes, fill: Callable[[Path], None]) -> Path:
    """The folder for `key` in the first cache that has it or can be written to; `fill` puts into a new one what belongs there.

    Any number of processes may ask at once. Where one is killed, half a folder stays under a name that nobody asks for.
    """
    folder = f"{name}-{hashlib.sha256(key).hexdigest()[:20]}"
    caches = list(_caches())
    for cache in caches:
        if _ours(cache) and (cache / folder).is_dir():
            return cache / folder
    for cache in caches:
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=cache)) if _ours(cache) else None
        except OSError:  # a read-only root
            continue
        if made:
            return _finish(made, cache / folder, fill)
    tried = ", ".join(str(cache) for cache in caches)
    raise HeaderError(f"no place to keep kernel headers: {tried} cannot be written or belong to somebody else; set XDG_CACHE_HOME")


def _finish(made: Path, folder: Path, fill: Callable[[Path], None]) -> Path:
    try:
        fill(made)
        made.chmod(0o755)
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _caches() -> Iterator[Path]:
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        yield Path(home) / "hopline"
    with suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache" / "hopline"
    yield Path(tempfile.gettempdir()) / f"hopline-{os.geteuid()}"


def _ours(cache: Path) -> bool:
    """Whether only this user can have put into `cache` what is there: it is compiled and loaded into the kernel."""
    try:
        state = cache.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
