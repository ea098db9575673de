"""Memory straight from the system: zeros, and none of it taken before it is written; and such memory that is used again."""

from __future__ import annotations

import mmap
import os

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
