"""Network namespaces by their file below /run/netns or /proc."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
OWN = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(descriptor: int, path: Path) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"{os.strerror(error)} (needs CAP_SYS_ADMIN)", str(path))


@contextmanager
def inside(path: Path | None) -> Iterator[None]:
    """This thread in the namespace of `path` (None: where it is): sockets made here stay there. OSError where it is gone or not allowed."""
    if path is None:
        yield
        return
    with OWN.open() as home, path.open() as there:
        _enter(there.fileno(), path)
        try:
            yield
        finally:
            _enter(home.fileno(), OWN)
