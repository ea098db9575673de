"""Classic pcap (draft-ietf-opsawg-pcap): the file header, and a compiled walk from record to record."""

from __future__ import annotations

from dataclasses import dataclass

from probes.capture.records import CORRUPT, FULL, MAX_FRAME_BYTES, NEED_MORE, read32
from probes.jit import inlined, kernel
from probes.schema import Array

HEADER_BYTES = 24
MAGICS = {  # first four bytes: (big-endian, ns per fraction unit)
    b"\xa1\xb2\xc3\xd4": (True, 1000),
    b"\xd4\xc3\xb2\xa1": (False, 1000),
    b"\xa1\xb2\x3c\x4d": (True, 1),
    b"\x4d\x3c\xb2\xa1": (False, 1),
}


@dataclass(frozen=True, slots=True)
class PcapHeader:
    """What the file header says; `unit_ns` is the timestamps' unit."""

    big: bool
    unit_ns: int
    snaplen: int
    link_type: int


def read_header(header: bytes) -> PcapHeader:
    """Read HEADER_BYTES bytes that start with one of MAGICS."""
    big, unit_ns = MAGICS[header[:4]]
    order = "big" if big else "little"
    return PcapHeader(big, unit_ns, int.from_bytes(header[16:20], order), int.from_bytes(header[20:24], order) & 0x0FFF_FFFF)


@inlined
def _plausible(data: Array, at: int, big: bool, limit: int, seconds: int) -> bool:  # noqa: FBT001 (compiled code)
    captured, wire, then = read32(data, at + 8, big), read32(data, at + 12, big), read32(data, at, big)
    return 0 < captured <= limit and captured <= wire <= MAX_FRAME_BYTES and abs(then - seconds) <= 86_400


@kernel
def pcap_records(
    data: Array, at: int, big: bool, unit_ns: int, limit: int, offsets: Array, captured: Array, wire: Array, times: Array,  # noqa: FBT001
) -> tuple[int, int, int]:  # fmt: skip
    """Walk the records of `data` from `at`; `(frames found, where it stopped, NEED_MORE | FULL | CORRUPT)`.

    A record that claims more than `limit` captured bytes is CORRUPT. One that is not whole yet is left for the next call.
    """
    count = 0
    while at + 16 <= len(data):
        if count == len(offsets):
            return count, at, FULL
        length = read32(data, at + 8, big)
        if length > limit:
            return count, at, CORRUPT
        if at + 16 + length > len(data):
            break
        times[count] = read32(data, at, big) * 1_000_000_000 + read32(data, at + 4, big) * unit_ns
        offsets[count], captured[count], wire[count] = at + 16, length, max(read32(data, at + 12, big), length)
        count, at = count + 1, at + 16 + length
    return count, at, NEED_MORE


@kernel
def pcap_resynchronise(data: Array, at: int, big: bool, limit: int, seconds: int) -> int:  # noqa: FBT001 (compiled code)
    """The next place from `at` on where three plausible records follow one another (or fewer, up to the data's end); -1 where none is."""
    for start in range(at, len(data) - 16):
        here, good = start, 0
        while here + 16 <= len(data) and good < 3 and _plausible(data, here, big, limit, seconds):
            here, good = here + 16 + read32(data, here + 8, big), good + 1
        if good == 3 or (good > 0 and here == len(data)):
            return start
    return -1
