"""Memory straight from the system: zeros, and none of it taken before it is written."""

from __future__ import annotations

import mmap

HUGE_BYTES = 1 << 21
_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)  # where the system has them


def pages(size_bytes: int) -> mmap.mmap:
    """Private memory of so many bytes."""
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def want_huge(memory: mmap.mmap, begin: int = 0) -> None:
    """Have `memory` in pages of HUGE_BYTES from `begin` on, as far as whole ones fit: small ones take three times as long.

    The system aligns what `pages` gives where its size is a multiple of theirs.
    """
    if _HUGE is not None:
        memory.madvise(_HUGE, begin)
