"""pcapng blocks (draft-ietf-opsawg-pcapng) for writing: what describes a file in plain Python, packets in bulk from columns.

Everything is in this machine's byte order, as the format allows (4.1), and every time in nanoseconds since the epoch.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from probes.capture.blocks import BYTE_ORDER, ENHANCED_PACKET, INTERFACE_BLOCK, OPT_COMMENT, PACKET_FLAGS, SECTION, STATISTICS
from probes.capture.pcapng import IF_NAME, IF_TSRESOL, ISB_IFDROP, ISB_OSDROP
from probes.capture.records import read32
from probes.jit import copy, kernel, wide
from probes.schema import Array

SHB_HARDWARE, SHB_OS, SHB_USERAPPL = 2, 3, 4
IF_DESCRIPTION, IF_FILTER = 3, 11
ISB_STARTTIME, ISB_ENDTIME, ISB_IFRECV, ISB_FILTERACCEPT, ISB_USRDELIV = 2, 3, 4, 6, 8
NANOSECONDS = b"\x09"  # if_tsresol: 10^-9 s
LENGTH_UNKNOWN = -1  # of a section (4.1)
PACKET_BYTES = 32  # of an enhanced packet block, without its frame and options
FLAGS_BYTES = 12  # of the option epb_flags and the end of options
FLAGS_OPTION = int.from_bytes(struct.pack("=HH", PACKET_FLAGS, 4), sys.byteorder)  # its code and length
BIG = sys.byteorder == "big"


@dataclass(frozen=True, slots=True)
class InterfaceDescription:
    """An observation point, as its file introduces it (4.2)."""

    name: str
    link_type: int
    snaplen: int = 0  # bytes; 0 for no limit
    description: str | None = None
    filter: str | None = None  # in words, what was let through
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """Packets of one interface since `start_ns` (4.6), on the way from the wire to the file; None where a stage does not count."""

    received: int | None = None  # seen at all
    dropped: int | None = None  # by the interface
    accepted: int | None = None  # by the filter
    dropped_by_system: int | None = None  # after the filter: no room in a buffer, or in the file
    delivered: int | None = None  # written


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _options(pairs: Iterable[tuple[int, bytes | str | None]]) -> bytes:
    """The options that are not None, and the end of options if there are any (3.5)."""
    made = b"".join(_option(code, value.encode() if isinstance(value, str) else value) for code, value in pairs if value is not None)
    return made + bytes(4) if made else b""


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("=I", 12 + len(body))
    return struct.pack("=I", kind) + length + body + length


def _time(time_ns: int) -> bytes:
    return struct.pack("=II", time_ns >> 32, time_ns & 0xFFFF_FFFF)


def section_header(
    *, hardware: str | None = None, system: str | None = None, application: str | None = None, comments: Iterable[str] = ()
) -> bytes:  # fmt: skip
    """The block that every file begins with (4.1)."""
    said = [(SHB_HARDWARE, hardware), (SHB_OS, system), (SHB_USERAPPL, application)]
    options = _options([*((OPT_COMMENT, comment) for comment in comments), *said])
    return _block(SECTION, struct.pack("=IHHq", BYTE_ORDER, 1, 0, LENGTH_UNKNOWN) + options)


def interface_description(interface: InterfaceDescription) -> bytes:
    """The block that gives the section's next number to `interface` (4.2)."""
    options = _options([
        (OPT_COMMENT, interface.comment),
        (IF_NAME, interface.name),
        (IF_DESCRIPTION, interface.description),
        (IF_TSRESOL, NANOSECONDS),
        (IF_FILTER, None if interface.filter is None else b"\0" + interface.filter.encode()),  # 0: a string follows
    ])  # fmt: skip
    return _block(INTERFACE_BLOCK, struct.pack("=HHI", interface.link_type, 0, interface.snaplen) + options)


def interface_statistics(
    interface: int, counters: InterfaceCounters, *, start_ns: int, end_ns: int, comments: Iterable[str] = ()
) -> bytes:  # fmt: skip
    """What was counted at the section's interface number `interface` between two times (4.6)."""
    counts = [
        (ISB_IFRECV, counters.received), (ISB_IFDROP, counters.dropped), (ISB_FILTERACCEPT, counters.accepted),
        (ISB_OSDROP, counters.dropped_by_system), (ISB_USRDELIV, counters.delivered),
    ]  # fmt: skip
    options = _options([
        *((OPT_COMMENT, comment) for comment in comments),
        (ISB_STARTTIME, _time(start_ns)),
        (ISB_ENDTIME, _time(end_ns)),
        *((code, None if count is None else struct.pack("=Q", count)) for code, count in counts),
    ])  # fmt: skip
    return _block(STATISTICS, struct.pack("=I", interface) + _time(end_ns) + options)


def packet_blocks(
    interface: Array, time_ns: Array, wire_bytes: Array, direction: Array, offset: Array, captured: Array, data: Array
) -> Array:  # fmt: skip
    """Enhanced packet blocks (4.3), one per row and in their order, as the bytes of a file (u1).

    A row: the number of its `interface` (u4), its time (i8, ns since the epoch), its length on the wire (u4), its `direction` (u1: 0
    unknown, 1 in, 2 out), and where in `data` (u1) its `captured` (u4) bytes begin: `offset` (i8). ValueError where they are not there.
    """
    size = _size(direction, offset, captured, len(data))
    if size < 0:
        raise ValueError("a packet's bytes are not in the data: its offset or captured length is wrong")
    words = np.empty(size // 4, "u4")
    _fill(interface, time_ns, wire_bytes, direction, offset, captured, data, words)
    return words.view("u1")


@kernel
def _size(direction: Array, offset: Array, captured: Array, available: int) -> int:
    """Bytes of the blocks of all rows; -1 where one's frame is not inside the `available` bytes."""
    size = 0
    for row in range(len(offset)):
        length = wide(captured[row])
        if offset[row] < 0 or offset[row] + length > available:
            return -1
        size += PACKET_BYTES + ((length + 3) & ~3)
        if direction[row]:
            size += FLAGS_BYTES
    return size


@kernel
def _fill(
    interface: Array, time_ns: Array, wire_bytes: Array, direction: Array, offset: Array, captured: Array, data: Array, words: Array
) -> None:  # fmt: skip
    """Write the blocks into `words` (u4): all but the frames themselves is in units of four bytes."""
    at, blocks = 0, words.view(np.uint8)
    for row in range(len(offset)):
        first, length = offset[row], wide(captured[row])
        rest = at + 7 + ((length + 3) >> 2)  # where the frame and its padding end
        end = rest + (3 if direction[row] else 0)
        size = 4 * (end + 1 - at)
        words[at], words[at + 1], words[at + 2] = ENHANCED_PACKET, size, interface[row]
        words[at + 3], words[at + 4] = time_ns[row] >> 32, time_ns[row] & 0xFFFF_FFFF
        words[at + 5], words[at + 6] = length, wire_bytes[row]
        if length:
            words[rest - 1] = 0
        into = 4 * at + 28
        copy(blocks, into, data, first, length)
        if direction[row]:
            words[rest], words[rest + 1], words[rest + 2] = FLAGS_OPTION, direction[row], 0
        words[end] = size
        at = end + 1


@kernel
def whole_blocks(blocks: Array, start: int, room: int) -> tuple[int, int]:
    """`(end, count)`: the blocks from `start` on that fit into `room` bytes, how many they are and where the last one ends.

    `blocks` (u1) is what this machine wrote: whole blocks, one after the other.
    """
    at, count = start, 0
    while at + 12 <= len(blocks):
        size = read32(blocks, at + 4, BIG)
        if at + size - start > room:
            break
        at += size
        count += 1
    return at, count


@kernel
def tally(blocks: Array, counts: Array) -> tuple[int, int, int]:
    """`(frames, time of the earliest, of the latest)` of enhanced packet blocks; adds each interface's frames to `counts` (i8).

    ValueError for a packet of an interface that `counts` has no place for.
    """
    at, frames, first_ns, last_ns = 0, 0, 0, 0
    while at + 12 <= len(blocks):
        interface, time_ns = read32(blocks, at + 8, BIG), (read32(blocks, at + 12, BIG) << 32) | read32(blocks, at + 16, BIG)
        first_ns = min(first_ns, time_ns) if frames else time_ns
        last_ns = max(last_ns, time_ns)
        if interface >= len(counts):
            raise ValueError("a packet is of an interface that was never described")
        counts[interface] += 1
        frames += 1
        at += read32(blocks, at + 4, BIG)
    return frames, first_ns, last_ns
