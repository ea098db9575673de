"""A capture as large as wanted from a small one: copies one after the other in time, each with connections of its own."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

HEADER, RECORD = 24, 16
LONGEST = 1 << 24  # no frame is longer
IPV4, IPV6, TCP, UDP, VXLAN_PORT = 0x0800, 0x86DD, 6, 17, 8472
LINKS = {1: (14, 12), 113: (16, 14), 276: (20, 0)}  # link type: length of its header, where its EtherType is
Bytes = npt.NDArray[np.uint8]


def content_of(path: Path) -> bytes:
    """A capture's bytes, unpacked."""
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    """(offset, length) of each frame of a little-endian pcap file."""
    at = HEADER
    while at + RECORD <= len(content):
        length = int.from_bytes(content[at + 8 : at + 12], "little")
        yield at + RECORD, length
        at += RECORD + length


def _tcp_header(content: bytes, at: int, ethertype: int) -> int:
    """Where the innermost TCP header begins, -1 where there is none. Follows VXLAN."""
    if ethertype == IPV4:
        protocol, at = content[at + 9], at + 4 * (content[at] & 15)
    elif ethertype == IPV6:
        protocol, at = content[at + 6], at + 40
    else:
        return -1
    if protocol == UDP and int.from_bytes(content[at + 2 : at + 4], "big") == VXLAN_PORT:
        return _tcp_header(content, at + 8 + 8 + 14, int.from_bytes(content[at + 28 : at + 30], "big"))
    return at if protocol == TCP else -1


def _big_endian(data: Bytes, at: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(data[at[:, None] + np.arange(4)]).view(">u4").ravel().astype("u4")


def padded(content: bytes, size: int) -> bytes:
    """The frames of a pcap file, each filled up to `size` bytes behind what its headers tell of, as a capture of full-size packets is."""
    pieces = [content[:HEADER]]
    for at, length in _frames(content):
        whole = max(length, size)
        pieces += [content[at - RECORD : at - 8], whole.to_bytes(4, "little") * 2, content[at : at + length], bytes(whole - length)]
    return b"".join(pieces)


def _snapped(content: bytes, snaplen: int) -> npt.NDArray[np.bool_]:
    """Which bytes of a pcap file are left of it with frames of at most `snaplen` bytes."""
    kept = np.ones(len(content), bool)
    for at, length in _frames(content):
        kept[at + snaplen : at + length] = False
    return kept


def repeated(content: bytes, copies: int, snaplen: int = LONGEST) -> Iterator[bytes]:
    """The frames of a pcap file `copies` times, each copy later and with other TCP sequence numbers: other connections of the same kind.

    Piece by piece: the file's header, then a piece for each copy, whose frames are cut to `snaplen` bytes.
    """
    frames = list(_frames(content))
    link, where = LINKS[int.from_bytes(content[20:24], "little")]
    starts = np.array([at - RECORD for at, _ in frames])
    kept = _snapped(content, snaplen)
    captured = np.array([min(length, snaplen) for _, length in frames], "<u4")
    seconds = np.array([int.from_bytes(content[at : at + 4], "little") for at in starts.tolist()])
    tcp = np.array([_tcp_header(content, at + link, int.from_bytes(content[at + where : at + where + 2], "big")) for at, _ in frames])
    tcp = tcp[tcp >= 0]
    yield content[:HEADER]
    seq, ack = (_big_endian(np.frombuffer(content, np.uint8), tcp + field) for field in (4, 8))
    for copy in range(copies):
        data = np.frombuffer(content, np.uint8).copy()
        later = (seconds + copy * (int(np.ptp(seconds)) + 31)).astype("<u4")
        data[starts[:, None] + np.arange(4)] = later.view(np.uint8).reshape(-1, 4)
        data[starts[:, None] + 8 + np.arange(4)] = captured.view(np.uint8).reshape(-1, 4)
        for field, numbers in ((4, seq), (8, ack)):
            moved = np.where(numbers == 0, 0, numbers + np.uint32(copy * 0x3000_0001 & 0xFFFF_FFFF)).astype(">u4")
            data[tcp[:, None] + field + np.arange(4)] = moved.view(np.uint8).reshape(-1, 4)
        yield data[HEADER:][kept[HEADER:]].tobytes()


def as_ethernet(content: bytes) -> bytes:
    """The frames of a pcap file with Ethernet headers (no addresses) instead of their own."""
    header, ethertype = LINKS[int.from_bytes(content[20:24], "little")]
    pieces = [content[:20], (1).to_bytes(4, "little")]
    for at, length in _frames(content):
        pieces.append(content[at - RECORD : at - 8])
        pieces += [(size - header + 14).to_bytes(4, "little") for size in (length, int.from_bytes(content[at - 4 : at], "little"))]
        pieces += [bytes(12), content[at + ethertype : at + ethertype + 2], content[at + header : at + length]]
    return b"".join(pieces)


def count(content: bytes) -> int:
    """How many frames a pcap file has."""
    return sum(1 for _ in _frames(content))


def head(path: Path, frames: int) -> bytes:
    """The first `frames` frames of a pcap file, as one of its own."""
    with path.open("rb") as stream:
        start = stream.read(HEADER)
        pieces = [start]
        while len(pieces) <= frames and len(record := stream.read(RECORD)) == RECORD:
            pieces.append(record + stream.read(int.from_bytes(record[8:12], "little")))
    return b"".join(pieces)


def scaled(bundle: Path, folder: Path, frames: int) -> tuple[Path, Path]:
    """Write a bundle of about `frames` frames into `folder`: `bundle`'s captures repeated, its metadata as it is, without conntrack.

    Returns the bundle and one file with all its frames.
    """
    captures = {path: content_of(path) for path in sorted(bundle.glob("*.pcap*"))}
    copies = max(1, frames // sum(count(content) for content in captures.values()))
    (folder / "bundle").mkdir()
    whole = b""
    for path, content in captures.items():
        large = b"".join(repeated(content, copies))
        (folder / "bundle" / f"{path.name.partition('.')[0]}.pcap").write_bytes(large)
        whole += large[HEADER:] if whole else large
    for path in [*bundle.glob("cluster*.json*"), *bundle.glob("*.links.txt")]:
        shutil.copy(path, folder / "bundle")
    (folder / "whole.pcap").write_bytes(whole)
    return folder / "bundle", folder / "whole.pcap"
