"""pcapng blocks (draft-ietf-opsawg-pcapng, 3 and 4): the compiled walk over those that carry packets."""

from __future__ import annotations

from probes.capture.records import (
    BAD_PACKET,
    CORRUPT,
    FOUND,
    FULL,
    MAX_FRAME_BYTES,
    NEED_MORE,
    NO_TIME,
    NOWHERE,
    OTHER_BLOCK,
    UNDECIDED,
    read16,
    read32,
)
from probes.jit import bare, inside, wide
from probes.schema import Array

SECTION, INTERFACE_BLOCK, PACKET, SIMPLE_PACKET, NAMES, STATISTICS, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
JOURNAL, SECRETS, CUSTOM, CUSTOM_NOT_COPIED = 9, 10, 0x0BAD, 0x4000_0BAD
BYTE_ORDER = 0x1A2B3C4D
MAX_BLOCK_BYTES = MAX_FRAME_BYTES + 4096  # Wireshark's limit is 16 MiB too; a length beyond it is a lie
OPT_COMMENT, PACKET_FLAGS = 1, 2
CHAIN = 2  # so many sound blocks one after the other are no coincidence


@inside
def _nanoseconds(ticks: int, resolution: int, offset_s: int) -> int:
    """A timestamp since the epoch (4.2: if_tsresol, if_tsoffset)."""
    if 0 <= resolution <= 9:
        time_ns = ticks * wide(10 ** (9 - resolution))
    elif resolution > 9:
        time_ns = ticks // wide(10 ** (resolution - 9))
    else:
        shift = -resolution
        fraction = ticks & ((1 << shift) - 1)
        if shift > 32:
            fraction, shift = fraction >> (shift - 32), 32
        time_ns = (ticks >> -resolution) * 1_000_000_000 + ((fraction * 1_000_000_000) >> shift)
    return time_ns + offset_s * 1_000_000_000


@inside
def _packet_options(data: Array, at: int, end: int, big: bool) -> tuple[int, bool]:
    """`(direction, whether there is a comment)`: epb_flags bits 0-1 are 1 inbound, 2 outbound (4.3.1)."""
    direction, commented = 0, False
    while at + 4 <= end:
        code, length = read16(data, at, big), read16(data, at + 2, big)
        if code == 0 or at + 4 + length > end:
            break
        if code == PACKET_FLAGS and length == 4:
            direction = read32(data, at + 4, big) & 3
        elif code == OPT_COMMENT:
            commented = True
        at += 4 + ((length + 3) & ~3)
    return direction if direction < 3 else 0, commented


@inside
def _packet(frame: Array, data: Array, at: int, length: int, big: bool, first_interface: int, interfaces: Array) -> bool:
    """Fill `frame` from the enhanced packet block (4.3) or obsolete packet block (A) at `at`; False where it contradicts itself."""
    if length < 32:
        return False
    interface = read32(data, at + 8, big) if read32(data, at, big) == ENHANCED_PACKET else read16(data, at + 8, big)
    interface += first_interface
    size, end = read32(data, at + 20, big), at + length - 4
    if interface >= len(interfaces) or at + 28 + size > end:
        return False
    ticks = (read32(data, at + 12, big) << 32) | read32(data, at + 16, big)
    described = interfaces[interface]
    direction, commented = _packet_options(data, at + 28 + ((size + 3) & ~3), end, big)
    frame["offset"], frame["captured"], frame["wire"] = at + 28, size, max(read32(data, at + 24, big), size)
    frame["time_ns"] = _nanoseconds(ticks, described["resolution"], described["offset_s"])
    frame["interface"], frame["direction"], frame["commented"] = interface, direction, at if commented else -1
    return True


@inside
def _simple_packet(frame: Array, data: Array, at: int, length: int, big: bool, first_interface: int, interfaces: Array) -> bool:
    """Fill `frame` from the simple packet block (4.4) at `at`: it is of its section's first interface, and has no time."""
    if length < 16 or first_interface >= len(interfaces):
        return False
    wire, snaplen = read32(data, at + 8, big), interfaces[first_interface]["snaplen"]
    size = min(wire, length - 16)
    if snaplen > 0:
        size = min(size, snaplen)
    frame["offset"], frame["captured"], frame["wire"], frame["time_ns"] = at + 12, size, wire, NO_TIME
    frame["interface"], frame["direction"], frame["commented"] = first_interface, 0, -1
    return True


@bare
def pcapng_records(data: Array, at: int, big: bool, first_interface: int, interfaces: Array, frames: Array) -> tuple[int, int, int]:  # noqa: PLR0911 (a return per reason to stop)
    """Walk the blocks of `data` from `at`, packets into `frames` (FRAME); `(frames found, where it stopped, how it ended)`.

    `interfaces` (INTERFACE) are all of the file's so far; this section's begin at `first_interface`. Stops at OTHER_BLOCK for those that
    describe something (section, interface, its statistics), at BAD_PACKET where a packet's block is whole but contradicts itself.
    """
    count = 0
    while at + 12 <= len(data):
        if count == len(frames):
            return count, at, FULL
        kind, length = read32(data, at, big), read32(data, at + 4, big)
        if kind == SECTION:
            return count, at, OTHER_BLOCK
        if length < 12 or length & 3 or length > MAX_BLOCK_BYTES:
            return count, at, CORRUPT
        if at + length > len(data):
            break
        if read32(data, at + length - 4, big) != length:
            return count, at, CORRUPT
        if kind in (ENHANCED_PACKET, PACKET):
            if not _packet(frames[count], data, at, length, big, first_interface, interfaces):
                return count, at, BAD_PACKET
            count += 1
        elif kind == SIMPLE_PACKET:
            if not _simple_packet(frames[count], data, at, length, big, first_interface, interfaces):
                return count, at, BAD_PACKET
            count += 1
        elif kind == INTERFACE_BLOCK and length < 20:
            return count, at, CORRUPT
        elif kind in (INTERFACE_BLOCK, STATISTICS):
            return count, at, OTHER_BLOCK
        at += length
    return count, at, NEED_MORE


@inside
def _block(data: Array, at: int, big: bool) -> tuple[int, int]:
    """`(length, verdict)` of a block at `at` whose kind is known and whose two lengths agree; UNDECIDED where it is not all in `data`."""
    if at + 12 > len(data):
        return 0, UNDECIDED
    kind = read32(data, at, big)
    if kind == SECTION:
        big = read32(data, at + 8, True) == BYTE_ORDER
        if not big and read32(data, at + 8, False) != BYTE_ORDER:
            return 0, NOWHERE
    elif not (0 < kind <= ENHANCED_PACKET or kind in (JOURNAL, SECRETS, CUSTOM, CUSTOM_NOT_COPIED)):
        return 0, NOWHERE
    length = read32(data, at + 4, big)
    if length < 12 or length & 3 or length > MAX_BLOCK_BYTES:
        return 0, NOWHERE
    if at + length > len(data):
        return length, UNDECIDED
    return length, FOUND if read32(data, at + length - 4, big) == length else NOWHERE


@bare
def pcapng_search(data: Array, at: int, final: bool, big: bool) -> tuple[int, int]:
    """`(place, FOUND | NOWHERE | UNDECIDED)`: the first place from `at` on where CHAIN sound blocks start, or one before the file's end.

    `final`: `data` holds the end of the file. Otherwise a block may run out of `data`, and more is needed to decide.
    """
    for start in range(at, len(data)):
        here, good, verdict = start, 0, FOUND
        while good < CHAIN and verdict == FOUND:
            length, verdict = _block(data, here, big)
            if verdict == FOUND:
                here, good = here + length, good + 1
        if good == CHAIN or (final and good > 0 and verdict == UNDECIDED):
            return start, FOUND
        if not final and verdict == UNDECIDED:
            return start, UNDECIDED
    return len(data), NOWHERE
