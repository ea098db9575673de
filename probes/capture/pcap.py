"""Classic pcap (draft-ietf-opsawg-pcap): the file header, and a compiled walk from record to record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from probes.capture.gather import Gatherer
from probes.capture.records import CORRUPT, FOUND, FULL, MAX_FRAME_BYTES, NEED_MORE, NOWHERE, UNDECIDED, Interface, read32
from probes.jit import bare, inside, place, prefetch
from probes.schema import Array

HEADER_BYTES = 24
RECORD_BYTES = 16  # of a record's header
NEAR_BYTES = 512  # so far ahead the walk has bytes fetched: where a record is, only the one before tells
MAGICS = {  # first four bytes: (big-endian, ns per fraction unit)
    b"\xa1\xb2\xc3\xd4": (True, 1000),
    b"\xd4\xc3\xb2\xa1": (False, 1000),
    b"\xa1\xb2\x3c\x4d": (True, 1),
    b"\x4d\x3c\xb2\xa1": (False, 1),
}
USUAL_SNAPLEN = 262_144  # tcpdump's, and the least that is believed: some writers' records are longer than their header promises
CHAIN, LONG_CHAIN = 3, 8  # so many plausible records one after the other are no coincidence
DAY = 86_400  # s; what has been going on for longer than that between two records is damage


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
    order: Literal["big", "little"] = "big" if big else "little"
    # the upper bits of the link type are flags, such as the length of a frame check sequence
    return PcapHeader(big, unit_ns, int.from_bytes(header[16:20], order), int.from_bytes(header[20:24], order) & 0x03FF_FFFF)


@inside
def _header(data: Array, at: int, big: bool) -> tuple[int, int, int, int]:
    """What a record's header at `at` says: seconds, fraction of a second, bytes captured, bytes on the wire."""
    return read32(data, at, big), read32(data, at + 4, big), read32(data, at + 8, big), read32(data, at + 12, big)


@inside
def _plausible(header: tuple[int, int, int, int], unit_ns: int, limit: int, seconds: int) -> bool:
    """Whether a record may have that `_header`; `seconds` is the time of the one before, -1 where there is none."""
    then, fraction, captured, wire = header
    in_time = seconds < 0 or abs(then - seconds) <= DAY
    return 0 < captured <= limit and captured <= wire <= MAX_FRAME_BYTES and fraction * unit_ns < 1_000_000_000 and in_time


@inside
def _chain(data: Array, at: int, stop: int, final: bool, big: bool, unit_ns: int, limit: int, seconds: int) -> tuple[int, int]:
    """`(place, FOUND | NOWHERE | UNDECIDED)`: the first place in at…stop where a chain of plausible records starts, or ends the file.

    CHAIN of them are enough where the first is of the time of `seconds`, the last record that is known to be sound (-1 if none is); else
    LONG_CHAIN. `final`: `data` holds the end of the file. Otherwise a chain may run out of `data`, and more is needed to decide.
    """
    for start in range(at, stop):
        if start + RECORD_BYTES > len(data):
            return (stop, NOWHERE) if final else (start, UNDECIDED)
        here, good, then = start, 0, -1
        near = seconds >= 0 and abs(read32(data, start, big) - seconds) <= DAY
        wanted = CHAIN if near or seconds < 0 else LONG_CHAIN
        while good < wanted and here + RECORD_BYTES <= len(data) and _plausible(_header(data, here, big), unit_ns, limit, then):
            then = read32(data, here, big)
            here, good = here + RECORD_BYTES + read32(data, here + 8, big), good + 1
        ends = here == len(data) and good >= (1 if near else 2)
        ends_cut = here + RECORD_BYTES > len(data) and good >= (2 if near else CHAIN)
        if good == wanted or (final and (ends or ends_cut)):
            return start, FOUND
        if not final and here + RECORD_BYTES > len(data):
            return start, UNDECIDED
    return stop, NOWHERE


@bare
def pcap_search(data: Array, at: int, final: bool, big: bool, unit_ns: int, limit: int, seconds: int) -> tuple[int, int]:
    """`_chain` to the end of `data`."""
    return _chain(data, at, len(data), final, big, unit_ns, limit, seconds)


@bare
def pcap_records(
    data: Array, at: int, final: bool, big: bool, unit_ns: int, limit: int, seconds: int, frames: Array
) -> tuple[int, int, int, int]:  # fmt: skip
    """Walk the records of `data` from `at` into `frames` (FRAME); `(frames found, where it stopped, how it ended, new seconds)`.

    A record that claims more than `limit` captured bytes is CORRUPT, and so is one of zeros (a hole in the file), and one behind which
    nothing plausible follows while something does inside of it. One that is not whole yet is left for the next call (NEED_MORE), as is one
    whose successor's header is not here yet, unless `final`. `seconds` is the time of the last record that a plausible one followed, -1
    where there is none.
    """
    count = 0
    header = _header(data, at, big) if at + RECORD_BYTES <= len(data) else (0, 0, 0, 0)
    while at + RECORD_BYTES <= len(data):
        if count == len(frames):
            return count, at, FULL, seconds
        then, fraction, captured, wire = header
        if captured > limit or then | captured | wire == 0:
            return count, at, CORRUPT, seconds
        following = at + RECORD_BYTES + captured
        prefetch(data, following + NEAR_BYTES)
        if following > len(data) or (following + RECORD_BYTES > len(data) and not final):
            break
        if following + RECORD_BYTES <= len(data):
            header = _header(data, following, big)
            if _plausible(header, unit_ns, limit, then):
                seconds = then
            else:
                _, verdict = _chain(data, at + 1, following, final, big, unit_ns, limit, then if seconds < 0 else seconds)
                if verdict == UNDECIDED:
                    break
                if verdict == FOUND:
                    return count, at, CORRUPT, seconds
        frame = frames[place(count)]
        frame["offset"], frame["captured"], frame["wire"] = at + RECORD_BYTES, captured, max(wire, captured)
        frame["time_ns"] = then * 1_000_000_000 + fraction * unit_ns
        frame["interface"], frame["direction"], frame["commented"] = 0, 0, -1
        count, at = count + 1, following
    return count, at, NEED_MORE, seconds


def read_pcap(gatherer: Gatherer, header: PcapHeader) -> Iterator[int]:
    """Find all records behind the file's header; at each step, so many of `gatherer.frames` are the next ones."""
    window, at, seconds = gatherer.window, HEADER_BYTES, -1
    gatherer.interface(Interface(None, header.link_type, header.snaplen, 9 if header.unit_ns == 1 else 6))
    big, unit_ns = header.big, header.unit_ns
    limit = max(USUAL_SNAPLEN, min(header.snaplen or MAX_FRAME_BYTES, MAX_FRAME_BYTES))

    def search(data: Array, start: int, final: bool) -> tuple[int, int]:
        return pcap_search(data, start, final, big, unit_ns, limit, seconds)

    while True:
        count, at, status, seconds = pcap_records(window.data, at, window.ended, big, unit_ns, limit, seconds, gatherer.frames)
        if count:
            yield count
        if status == NEED_MORE and not window.ended:
            window.more(at)
            at = 0
        elif status != FULL:
            if at == len(window.data):
                return
            at = gatherer.skip_damage(at, search, cut=status == NEED_MORE)
