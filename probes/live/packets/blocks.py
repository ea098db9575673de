"""From ring buffers to a file in one pass: records of packets.c become pcapng blocks, those of several rings in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from probes.capture.blocks import ENHANCED_PACKET
from probes.jit import copy, kernel, wide
from probes.live.pcapng import FLAGS_OPTION
from probes.live.rings import BUSY, DISCARDED, HEADER_BYTES
from probes.schema import Array

# `struct packet` in packets.c, in front of the packet's bytes: what is read below by numbers of words.
PACKET = np.dtype([
    ("time_ns", "u8"), ("ifindex", "u4"), ("wire_bytes", "u4"), ("captured_bytes", "u2"), ("kind", "u1"), ("pad", "u1", 5),
])  # fmt: skip
IN, OUT, PACKET_OUTGOING = 1, 2, 4
_FIRST = (HEADER_BYTES + PACKET.itemsize) // 4  # words of a record before the packet's bytes
_NEVER = 1 << 62
CHUNK_BYTES = 1 << 19  # of blocks at a time: they stay in a core's cache until they are written
DONE, FULL = -1, -2  # how a walk ended, where not at an ifindex


@kernel
def _after(header: int) -> int:
    """How many words there are from a record with this header to the next one."""
    return ((header & ~(BUSY | DISCARDED)) + HEADER_BYTES + 7 >> 3) << 1


@kernel
def _next(words: Array, at: int) -> tuple[int, int]:
    """`(position, time)` of the first record from `at` on that was not discarded; the time is _NEVER where there is none."""
    while at < len(words):
        header = wide(words[at])
        if not header & DISCARDED:
            return at, _time(words, at)
        at += _after(header)
    return at, _NEVER


@kernel
def _time(words: Array, at: int) -> int:
    return wide(words[at + 2]) | wide(words[at + 3]) << 32


@kernel
def _one_ring(
    source: Array, at: int, until_ns: int, numbers: Array, offset_ns: int, words: Array, done: int
) -> tuple[int, int, int, int]:  # fmt: skip
    """Blocks of the records of `source` (u4) from `at` on that were made until `until_ns`, into `words` (u4) from `done` on.

    `(next record, words, packets, ended by)`: DONE, FULL where the next one has no room, or the ifindex of one that has no number.
    """
    octets, packets = words.view(np.uint8), 0
    while at < len(source):
        header = wide(source[at])
        if not header & DISCARDED:
            time_ns, ifindex, rest = _time(source, at), wide(source[at + 4]), wide(source[at + 6])
            length, kind = rest & 0xFFFF, rest >> 16 & 0xFF
            frame = (length + 3) >> 2
            into, end = done + 7, done + 10 + frame
            if time_ns > until_ns:
                break
            if end >= len(words):
                return at, done, packets, FULL
            if ifindex >= len(numbers) or numbers[ifindex] < 0:
                return at, done, packets, ifindex
            size, wall_ns = 4 * (end + 1 - done), time_ns + offset_ns
            words[done], words[done + 1], words[done + 2] = ENHANCED_PACKET, size, numbers[ifindex]
            words[done + 3], words[done + 4] = wall_ns >> 32, wall_ns & 0xFFFF_FFFF
            words[done + 5], words[done + 6] = length, source[at + 5]
            copy(words, into, source, at + _FIRST, frame)
            for octet in range(4 * into + length, 4 * (into + frame)):
                octets[octet] = 0
            words[end - 3], words[end - 2], words[end - 1] = FLAGS_OPTION, OUT if kind == PACKET_OUTGOING else IN, 0
            words[end] = size
            done, packets = end + 1, packets + 1
        at += _after(header)
    return at, done, packets, DONE


@kernel
def _all_rings(spans: tuple[Array, ...], at: Array, numbers: Array, offset_ns: int, words: Array, done: int) -> tuple[int, int, int]:
    """As `_one_ring`, of `spans` at once, each from its place in `at` (i8) on, which moves on: `(words, packets, ended by)`."""
    packets = 0
    while True:
        which, earliest, second = 0, _NEVER, _NEVER
        for each in range(len(spans)):
            at[each], time_ns = _next(spans[each], at[each])
            if time_ns < earliest:
                which, earliest, second = each, time_ns, earliest
            else:
                second = min(second, time_ns)
        if earliest == _NEVER:
            return done, packets, DONE
        at[which], done, more, ended = _one_ring(spans[which], at[which], second, numbers, offset_ns, words, done)
        packets += more
        if ended != DONE:
            return done, packets, ended


class Blocks:
    """Makes the blocks of what `rings` rings hold. `meet` is told an ifindex that has no number in the file, and gives it one."""

    def __init__(self, rings: int, meet: Callable[[int], int]) -> None:
        self._meet = meet
        self._numbers: Array = np.full(64, -1, "i8")  # by ifindex
        self._words: Array = np.empty(CHUNK_BYTES // 4, "u4")
        list(self.of([np.frombuffer(b"", "u1")] * rings, 0))  # compiled, or loaded, before the first packet waits for it

    def number(self, ifindex: int, number: int) -> None:
        """From now on `ifindex` has this number in the file."""
        if ifindex >= len(self._numbers):
            self._numbers = np.append(self._numbers, np.full(max(len(self._numbers), ifindex + 1 - len(self._numbers)), -1, "i8"))
        self._numbers[ifindex] = number

    def of(self, spans: Sequence[Array], offset_ns: int) -> Iterator[tuple[int, Array, list[int]]]:
        """The packets in `spans` (u1, as `Ring.peek` gives them), some at a time: how many, their blocks, the bytes of each span taken.

        Blocks (u1) are good until the next ones. Times grow by `offset_ns`. They are in order of time where each ring is: one that several
        processors share may not quite be.
        """
        words = tuple(span.view("u4") for span in spans)
        at, before, done, packets, ended = np.zeros(len(words), "i8"), [0] * len(words), 0, 0, FULL
        while ended != DONE:
            done, more, ended = _all_rings(words, at, self._numbers, offset_ns, self._words, done)
            packets += more
            if ended >= 0:
                self.number(ended, self._meet(ended))
                continue
            now = (4 * at).tolist()
            yield packets, self._words[:done].view("u1"), [end - begin for begin, end in zip(before, now, strict=True)]
            before, done, packets = now, 0, 0
