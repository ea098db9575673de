"""Memory straight from the system: zeros, and none of it taken before it is written; and such memory that is used again, or elsewhere."""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
from collections.abc import Callable

import numpy as np

from probes.schema import Array

HUGE_BYTES = 1 << 21
_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)  # where the system has them
_FORGET = getattr(mmap, "MADV_DONTNEED", None)
_LEND = getattr(mmap, "MADV_FREE", None)


def pages(size_bytes: int) -> mmap.mmap:
    """Private memory of so many bytes."""
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def want_huge(memory: mmap.mmap, begin: int = 0) -> None:
    """Have `memory` in pages of HUGE_BYTES from `begin` on, as far as whole ones fit.

    Of memory at hand small ones take three times as long; of memory that a host has taken back meanwhile huge ones do.
    The system aligns what `pages` gives where its size is a multiple of theirs.
    """
    if _HUGE is not None:
        memory.madvise(_HUGE, begin)


def forget(memory: mmap.mmap, begin: int) -> None:
    """Give back what is behind `begin`, a multiple of a page's size, as far as the system takes it: it is zero then."""
    if _FORGET is not None and begin < len(memory):
        memory.madvise(_FORGET, begin)


_FIXED = 0x10  # MAP_FIXED
_MOVE = 1 | 2 | 4  # MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP: where pages were, there is memory still, which is zero


def hand_over(source: Array, target: Array) -> None:
    """Have `target` begin with what is in `source`, which nobody uses any more: of large ones the pages move, where the system can do that.

    Where a process has as many pieces of memory as it may have (vm.max_map_count) they are copied too.

    `target` is memory of `pages` from the beginning of a page on, and longer by less than a page, whose rest may be anything then.
    """
    if not (_is_of_pages(source) and _moved(source.ctypes.data, target.ctypes.data, source.nbytes)):
        target[: len(source)] = source


def _is_of_pages(items: Array) -> bool:
    """Whether `items` are at the beginning of what `pages` gave."""
    memory: object = items
    while isinstance(memory, np.ndarray | memoryview):
        memory = memory.base if isinstance(memory, np.ndarray) else memory.obj
    return isinstance(memory, mmap.mmap) and items.ctypes.data % mmap.PAGESIZE == 0


def _moved(source: int, target: int, size_bytes: int) -> bool:
    """Whether the pages at address `source` are those at `target` now. MemoryError where the system has no more memory at all."""
    size_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    calls = _calls()
    if calls is None:
        return False
    move, make = calls
    if move(source, size_bytes, size_bytes, _MOVE, target) == target:
        return True
    if ctypes.get_errno() != errno.EINVAL:  # that is Linux before 5.7; else there may be nothing at `target` any more
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED
        if make(target, size_bytes, mmap.PROT_READ | mmap.PROT_WRITE, private, -1, 0) != target:
            raise MemoryError(os.strerror(ctypes.get_errno()))
    return False


@functools.cache
def _calls() -> tuple[Callable[..., int | None], Callable[..., int | None]] | None:
    """mremap(2) and mmap(2), where there is the former."""
    if sys.platform != "linux":
        return None
    system, address, size, number = ctypes.CDLL(None, use_errno=True), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    system.mremap.restype, system.mremap.argtypes = address, (address, size, size, number, address)
    system.mmap.restype, system.mmap.argtypes = address, (address, size, number, number, number, ctypes.c_long)
    return system.mremap, system.mmap


class KeptPages:
    """Memory that is done with, by what it was for: the system need not make pages when it is wanted for that again.

    It is lent to the system, which takes it where memory is scarce (madvise(2), MADV_FREE). Any thread may call. A forked process begins
    with nothing: pages that it shares with its parent would be copied when they are written.
    """

    def __init__(self, most_bytes: int) -> None:
        self.expected = False  # whether any was done with before: more may follow
        self._most_bytes = most_bytes
        self._kept: dict[str, list[tuple[mmap.mmap, int]]] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.clear)

    def clear(self) -> None:
        """Keep nothing of what was kept so far."""
        self._kept.clear()

    def take(self, what_for: str) -> tuple[mmap.mmap, int] | None:
        """Memory that was kept for that, and how many bytes at its beginning may be other than zero; None where there is none."""
        try:
            return self._kept[what_for].pop()
        except (KeyError, IndexError):
            return None

    def expect(self) -> None:
        """Some is done with, and will not be kept."""
        self.expected = True

    def keep(self, what_for: str, memory: mmap.mmap, used_bytes: int, process: int) -> None:
        """Keep what nobody else refers to, of which all is zero but the first `used_bytes`, a multiple of a page's size.

        It is let go where too much is kept, and where this is not the `process` that made it.
        """
        kept_bytes = sum(used for some in list(self._kept.values()) for _, used in some)
        if _LEND is not None and process == os.getpid() and kept_bytes + used_bytes <= self._most_bytes:
            memory.madvise(_LEND, 0, used_bytes)
            self._kept.setdefault(what_for, []).append((memory, used_bytes))
