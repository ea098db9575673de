"""pcapng (draft-ietf-opsawg-pcapng): sections, interfaces and statistics in Python, packets by the walk of `blocks`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from probes.capture.blocks import (
    INTERFACE_BLOCK,
    MAX_BLOCK_BYTES,
    OPT_COMMENT,
    SECTION,
    STATISTICS,
    pcapng_records,
    pcapng_search,
)
from probes.capture.gather import Gatherer
from probes.capture.records import BAD_PACKET, CORRUPT, FULL, NEED_MORE, OTHER_BLOCK, Interface
from probes.schema import Array

MAGIC = b"\x0a\x0d\x0d\x0a"
IF_NAME, IF_TSRESOL, IF_TSOFFSET = 2, 9, 14
ISB_IFDROP, ISB_OSDROP = 5, 7
FINEST_DECIMAL, FINEST_BINARY = 18, 63  # timestamps of 64 bits in finer units than 10^-18 s or 2^-63 s could not tell this century

Order = Literal["big", "little"]


def options(block: bytes, at: int, order: Order) -> Iterator[tuple[int, bytes]]:
    """The `(code, value)` pairs from `at` on, as far as they are whole (3.5)."""
    while at + 4 <= len(block):
        code, length = int.from_bytes(block[at : at + 2], order), int.from_bytes(block[at + 2 : at + 4], order)
        if code == 0 or at + 4 + length > len(block):
            return
        yield code, block[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)


def comments(block: bytes, at: int, order: Order) -> Iterator[str]:
    """The comments among the options from `at` on."""
    return (value.decode(errors="replace") for code, value in options(block, at, order) if code == OPT_COMMENT)


def read_interface(block: bytes, order: Order) -> Interface:
    """An interface description block (4.2), without its closing length."""
    name = None
    resolution, offset_s = 6, 0
    for code, value in options(block, 16, order):
        if code == IF_NAME:
            name = value.rstrip(b"\0").decode(errors="replace") or None
        elif code == IF_TSRESOL and value:
            resolution = -(value[0] & 0x7F) if value[0] & 0x80 else value[0]
        elif code == IF_TSOFFSET and len(value) == 8:
            offset_s = int.from_bytes(value, order, signed=True)
    link_type, snaplen = int.from_bytes(block[8:10], order), int.from_bytes(block[12:16], order)
    return Interface(name, link_type, snaplen, resolution, offset_s, "\n".join(comments(block, 16, order)) or None)


def read_drops(block: bytes, order: Order) -> tuple[int, int | None]:
    """`(interface id, packets dropped since capturing began)` of an interface statistics block (4.6); None where it does not count them."""
    counts = [int.from_bytes(value, order) for code, value in options(block, 20, order) if code in {ISB_IFDROP, ISB_OSDROP}]
    return int.from_bytes(block[8:12], order), sum(counts) if counts else None


def _section(data: Array, at: int) -> tuple[int, Order, int]:
    """`(OTHER_BLOCK | NEED_MORE | CORRUPT, byte order, length)` of the section header (4.1) at `at`; its order tells itself."""
    magic = data[at + 8 : at + 12].tobytes()
    order: Order = "big" if magic == b"\x1a\x2b\x3c\x4d" else "little"
    length = int.from_bytes(data[at + 4 : at + 8].tobytes(), order)
    if (order == "little" and magic != b"\x4d\x3c\x2b\x1a") or not 28 <= length <= MAX_BLOCK_BYTES or length % 4:
        return CORRUPT, order, length
    if at + length > len(data):
        return NEED_MORE, order, length
    closing = int.from_bytes(data[at + length - 4 : at + length].tobytes(), order)
    return OTHER_BLOCK if closing == length else CORRUPT, order, length


class _Sections:
    """What a pcapng file is in the midst of: the byte order, and which interface is the section's first."""

    def __init__(self, gatherer: Gatherer) -> None:
        self.gatherer = gatherer
        self.order: Order = "little"
        self.first_interface = 0

    def find(self, at: int) -> tuple[int, int, int]:
        """Find packets from `at` on; `(how many, where it stopped, how it ended)`."""
        gatherer = self.gatherer
        described = gatherer.clocks[: len(gatherer.interfaces)]
        big = self.order == "big"
        count, at, status = pcapng_records(gatherer.window.data, at, big, self.first_interface, described, gatherer.frames)
        commented = gatherer.frames["commented"][:count]
        for index in np.flatnonzero(commented >= 0).tolist():
            block = self.block(int(commented[index]))
            options_at = 28 + (int.from_bytes(block[20:24], self.order) + 3 & ~3)
            for text in comments(block, options_at, self.order):
                gatherer.comment(gatherer.statistics.frames + 1 + index, text)
        if status == OTHER_BLOCK and int.from_bytes(gatherer.window.data[at : at + 4].tobytes(), "little") == SECTION:
            status, self.order, _ = _section(gatherer.window.data, at)
            if status != NEED_MORE:  # also where the rest is damaged: interfaces are counted anew
                self.first_interface = len(gatherer.interfaces)
        return count, at, status

    def block(self, at: int) -> bytes:
        """The whole block at `at` without its closing length."""
        data = self.gatherer.window.data
        length = int.from_bytes(data[at + 4 : at + 8].tobytes(), self.order)
        return data[at : at + length - 4].tobytes()

    def describe(self, at: int) -> int:
        """Keep what the block at `at` says; where the next one is."""
        gatherer, block = self.gatherer, self.block(at)
        kind = int.from_bytes(block[:4], self.order)
        if kind == SECTION:
            for text in comments(block, 24, self.order):
                gatherer.comment(None, text)
        elif kind == INTERFACE_BLOCK:
            gatherer.interface(self._believable(read_interface(block, self.order)))
        elif kind == STATISTICS:
            interface, drops = read_drops(block, self.order)
            if drops is not None:
                gatherer.drops[self.first_interface + interface] = drops
        return at + len(block) + 4

    def _believable(self, interface: Interface) -> Interface:
        finest = max(-FINEST_BINARY, min(interface.resolution, FINEST_DECIMAL))
        if finest == interface.resolution:
            return interface
        base = "10^-" if interface.resolution > 0 else "2^-"
        self.gatherer.report(
            f"interface {interface.name or len(self.gatherer.interfaces)} counts time in units of {base}{abs(interface.resolution)} s",
            "its times are wrong: that many digits do not fit; capture again with tcpdump or dumpcap",
        )
        return Interface(interface.name, interface.link_type, interface.snaplen, finest, interface.offset_s, interface.comment)


def read_pcapng(gatherer: Gatherer) -> Iterator[int]:
    """Go through all sections of the file; at each step, so many of `gatherer.frames` are the next ones."""
    window, sections, at = gatherer.window, _Sections(gatherer), 0
    while True:
        count, at, status = sections.find(at)
        if count:
            yield count
        if status == OTHER_BLOCK:
            at = sections.describe(at)
        elif status == BAD_PACKET:
            gatherer.leave_out(at)
            at += len(sections.block(at)) + 4
        elif status == NEED_MORE and not window.ended:
            window.more(at)
            at = 0
        elif status != FULL:
            if at == len(window.data):
                return
            big = sections.order == "big"
            at = gatherer.skip_damage(at, lambda data, start, final: pcapng_search(data, start, final, big), cut=status == NEED_MORE)  # noqa: B023
