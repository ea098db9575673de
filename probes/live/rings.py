"""BPF ring buffers, read in bulk through shared memory.

The file of a ring (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with the producer's, then the data, mapped twice in a
row so that no record is ever broken. A record is 8 bytes of header (length; bit 31 busy, bit 30 discarded) and its content, padded to 8.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.jit import kernel, wide
from probes.live.bpf import BpfError
from probes.schema import Array

BUSY, DISCARDED = 1 << 31, 1 << 30
HEADER_BYTES = 8
_RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF


@kernel
def _extent(words: Array, first: int, end: int) -> int:
    """Where, from position `first` on (bytes, below the ring's size), the first record that is still being written begins."""
    at = first
    while at < end:
        header = wide(words[at >> 2])
        if header & BUSY:
            break
        at += ((header & ~(BUSY | DISCARDED)) + HEADER_BYTES + 7) & ~7
    return at


@kernel
def _contents(words: Array, starts: Array) -> int:
    """Fill `starts` with where the content of each record begins that was not discarded; how many there are."""
    at, count, end = 0, 0, len(words) * 4
    while at < end:
        header = wide(words[at >> 2])
        if not header & DISCARDED:
            starts[count] = at + HEADER_BYTES
            count += 1
        at += ((header & ~(BUSY | DISCARDED)) + HEADER_BYTES + 7) & ~7
    return count


def contents(span: Array) -> Array:
    """Where the content of each record in `span` (u1, as `Ring.peek` gives it) begins (i8), without the discarded ones."""
    starts = np.empty(len(span) // HEADER_BYTES, "i8")
    return starts[: _contents(span.view("u4"), starts)]


def new_ring(size_bytes: int) -> int:
    """The file descriptor of a new ring of `size_bytes` (a power of two of pages). BpfError where the kernel refuses."""
    library = ctypes.CDLL("libbcc.so.0", use_errno=True)
    descriptor: int = library.bcc_create_map(_RINGBUF, b"hopline", 0, 0, size_bytes, 0)
    if descriptor < 0:
        raise BpfError(f"no ring buffer of {size_bytes} bytes: {os.strerror(ctypes.get_errno())}; ask for a smaller one")
    return descriptor


class Ring:
    """One ring buffer, the reading end. The map's file descriptor stays the caller's."""

    def __init__(self, map_fd: int, size_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.size_bytes = size_bytes
        self._maps = (
            mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            mmap.mmap(map_fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page),
        )
        self._consumer: Array = np.frombuffer(self._maps[0], "u8", 1)
        self._producer: Array = np.frombuffer(self._maps[1], "u8", 1)
        self._data: Array = np.frombuffer(self._maps[1], "u1", offset=page)
        self._fence = threading.Lock()
        np.add.reduce(self._data[::page])  # touch it once: no page faults while packets come

    @property
    def empty(self) -> bool:
        """Whether the kernel has put nothing there since `release`: not even what it has not finished."""
        return int(self._producer[0]) == int(self._consumer[0])

    def peek(self) -> Array:
        """All finished records, with their headers, as the kernel wrote them: a view (u1) that is good until `release`."""
        begin = int(self._consumer[0])
        first = begin & (self.size_bytes - 1)
        available = int(self._producer[0]) - begin
        self._order()  # first the position, then the headers below it
        span = _extent(self._data.view("u4"), first, first + available) - first
        self._order()  # first the headers, then what they say is finished
        return self._data[first : first + span]

    def release(self, span_bytes: int) -> None:
        """Give the first `span_bytes` of what `peek` gave back to the kernel."""
        self._order()
        self._consumer[0] += np.uint64(span_bytes)

    def records(self, dtype: np.dtype[Any]) -> Array:
        """All finished records of one fixed form, as a copy."""
        span = self.peek()
        starts = contents(span)
        rows = span[starts[:, None] + np.arange(dtype.itemsize)] if len(starts) else np.empty((0, dtype.itemsize), "u1")
        self.release(len(span))
        return np.ascontiguousarray(rows).view(dtype).reshape(-1)

    def _order(self) -> None:
        """Loads and stores before this come before those after it, also on processors that reorder them (a lock is a barrier)."""
        with self._fence:
            pass


def ring_of_each(bytes_in_all: int, rings: int) -> int:
    """A size for each of `rings`: the power of two of at least 16 pages that keeps them within `bytes_in_all`."""
    return max(16 * mmap.PAGESIZE, 1 << (max(1, bytes_in_all // rings).bit_length() - 1))


def many_rings(program: Any, name: str, rings: int, size_bytes: int) -> Sequence[Ring]:
    """Fill the array of rings `name` of a program."""
    made = []
    for index in range(rings):
        descriptor = new_ring(size_bytes)
        program.map(name)[ctypes.c_int(index)] = ctypes.c_int(descriptor)
        made.append(Ring(descriptor, size_bytes))
        os.close(descriptor)
    return made
