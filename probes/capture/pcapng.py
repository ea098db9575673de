"""pcapng (draft-ietf-opsawg-pcapng): sections and interfaces in Python, packet blocks in a compiled walk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probes.capture.records import CORRUPT, FULL, NEED_MORE, OTHER_BLOCK, read16, read32
from probes.jit import inlined, kernel
from probes.schema import Array

SECTION, INTERFACE, PACKET, SIMPLE_PACKET, STATISTICS, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
MAX_BLOCK_BYTES = 1 << 26
OPT_COMMENT, EPB_FLAGS = 1, 2
IF_NAME, IF_TSRESOL, IF_TSOFFSET = 2, 9, 14
ISB_IFDROP, ISB_OSDROP = 5, 7


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface description block. `resolution`: n for units of 10^-n s, -n for 2^-n s."""

    name: str | None
    link_type: int
    snaplen: int
    resolution: int
    offset_s: int
    comment: str | None


def options(block: bytes, at: int, big: bool) -> Iterator[tuple[int, bytes]]:  # noqa: FBT001
    """The `(code, value)` pairs from `at` on, as far as they are whole (draft-ietf-opsawg-pcapng, 3.5)."""
    order = "big" if big else "little"
    while at + 4 <= len(block):
        code, length = int.from_bytes(block[at : at + 2], order), int.from_bytes(block[at + 2 : at + 4], order)
        if code == 0 or at + 4 + length > len(block):
            return
        yield code, block[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)


def read_interface(body: bytes, big: bool) -> Interface:  # noqa: FBT001
    """An interface description block's body (what is between its two lengths)."""
    order = "big" if big else "little"
    name = comment = None
    resolution, offset_s = 6, 0
    for code, value in options(body, 8, big):
        if code == IF_NAME:
            name = value.rstrip(b"\0").decode(errors="replace") or None
        elif code == IF_TSRESOL and value:
            resolution = -(value[0] & 0x7F) if value[0] & 0x80 else value[0]
        elif code == IF_TSOFFSET and len(value) == 8:
            offset_s = int.from_bytes(value, order, signed=True)
        elif code == OPT_COMMENT:
            comment = value.decode(errors="replace")
    return Interface(name, int.from_bytes(body[:2], order), int.from_bytes(body[4:8], order), resolution, offset_s, comment)


def read_drops(body: bytes, big: bool) -> tuple[int, int]:  # noqa: FBT001
    """`(interface id, packets dropped)` of an interface statistics block: by the interface and by the system, as far as counted."""
    order = "big" if big else "little"
    dropped = sum(int.from_bytes(value, order) for code, value in options(body, 12, big) if code in (ISB_IFDROP, ISB_OSDROP))
    return int.from_bytes(body[:4], order), dropped


@inlined
def _nanoseconds(ticks: int, resolution: int, offset_s: int) -> int:
    if 0 <= resolution <= 9:
        time_ns = ticks * 10 ** (9 - resolution)
    elif resolution > 9:
        time_ns = ticks // 10 ** (resolution - 9)
    else:
        shift = -resolution
        fraction = ticks & ((1 << shift) - 1)
        if shift > 32:
            fraction, shift = fraction >> (shift - 32), 32
        time_ns = (ticks >> -resolution) * 1_000_000_000 + ((fraction * 1_000_000_000) >> shift)
    return time_ns + offset_s * 1_000_000_000


@inlined
def _packet_options(data: Array, at: int, end: int, big: bool) -> tuple[int, int]:  # noqa: FBT001 (compiled code)
    """`(direction, offset of a comment option)`: epb_flags bits 0-1 are 1 inbound, 2 outbound (3.5.2)."""
    direction, comment = 0, -1
    while at + 4 <= end:
        code, length = read16(data, at, big), read16(data, at + 2, big)
        if code == 0 or at + 4 + length > end:
            break
        if code == EPB_FLAGS and length == 4:
            direction = read32(data, at + 4, big) & 3
        elif code == OPT_COMMENT:
            comment = at + 2
        at += 4 + ((length + 3) & ~3)
    return direction if direction < 3 else 0, comment


@kernel
def pcapng_records(
    data: Array, at: int, big: bool, first_interface: int, resolutions: Array, offsets_s: Array, snaplens: Array, offsets: Array,  # noqa: FBT001
    captured: Array, wire: Array, times: Array, interfaces: Array, directions: Array, comments: Array,
) -> tuple[int, int, int]:  # fmt: skip
    """Walk packet blocks from `at`; `(frames found, where it stopped, NEED_MORE | FULL | CORRUPT | OTHER_BLOCK)`.

    Interface ids count from `first_interface` (a section starts them anew). Blocks that carry no packet stop the walk at OTHER_BLOCK.
    """
    count = 0
    while at + 12 <= len(data):
        if count == len(offsets):
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
        end = at + length - 4
        if kind == ENHANCED_PACKET or kind == PACKET:  # noqa: PLR1714 (compiled code)
            interface = read32(data, at + 8, big) if kind == ENHANCED_PACKET else read16(data, at + 8, big)
            interface += first_interface
            size = read32(data, at + 20, big) if length >= 32 else -1
            if size < 0 or interface >= len(resolutions) or at + 28 + size > end:
                return count, at, CORRUPT
            ticks = (read32(data, at + 12, big) << 32) | read32(data, at + 16, big)
            times[count] = _nanoseconds(ticks, resolutions[interface], offsets_s[interface])
            direction, comment = _packet_options(data, at + 28 + ((size + 3) & ~3), end, big)
            offsets[count], captured[count], wire[count] = at + 28, size, max(read32(data, at + 24, big), size)
            interfaces[count], directions[count], comments[count] = interface, direction, comment
            count += 1
        elif kind == SIMPLE_PACKET:  # no timestamp: only frames of the first interface, its time unknown (0)
            if length < 16 or first_interface >= len(resolutions):
                return count, at, CORRUPT
            size = min(read32(data, at + 8, big), length - 16)
            if snaplens[first_interface] > 0:
                size = min(size, snaplens[first_interface])
            offsets[count], captured[count], wire[count], times[count] = at + 12, size, read32(data, at + 8, big), 0
            interfaces[count], directions[count], comments[count] = first_interface, 0, -1
            count += 1
        else:
            return count, at, OTHER_BLOCK
        at += length
    return count, at, NEED_MORE


@kernel
def pcapng_resynchronise(data: Array, at: int, big: bool) -> int:  # noqa: FBT001 (compiled code)
    """The next place from `at` on where a whole block stands whose two lengths agree; -1 where none is."""
    for start in range(at, len(data) - 12):
        length = read32(data, start + 4, big)
        kind = read32(data, start, big)
        known = 0 < kind <= 10 or kind == SECTION
        if known and 12 <= length <= MAX_BLOCK_BYTES and length & 3 == 0 and start + length <= len(data):
            if read32(data, start + length - 4, big) == length:
                return start
    return -1


def interface_columns(interfaces: list[Interface]) -> tuple[Array, Array, Array]:
    """`(resolutions, offsets_s, snaplens)` as the kernel wants them."""
    return (
        np.array([interface.resolution for interface in interfaces], "i8"),
        np.array([interface.offset_s for interface in interfaces], "i8"),
        np.array([interface.snaplen for interface in interfaces], "i8"),
    )
