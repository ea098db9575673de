"""Packets and capture files for tests, built from plain bytes.

Layers nest as they do on the wire, and each knows what the one around it has to call it:

    ethernet(ip4("10.0.0.1", "10.0.0.2", tcp(40000, 80, "S", seq=7, options=mss(1460))))
    ethernet(ip4(NODE_A, NODE_B, udp(50000, 8472, vxlan(1, ethernet(ip4(POD_A, POD_B, tcp(1, 2)))))))

Files are bytes: `pcap([frame, …])`, `bytes(PcapNg().section().interface().packet(frame))`; `read(file)` and `observe(frame)` decode them.
Checksums are zero, but for IPv4 headers', as offloading leaves them.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import zstandard

from probes.addresses import text
from probes.capture import Capture, read_capture
from probes.schema import Table

START_NS = 1_700_000_000_123_456_789
STEP_NS = 1_000_000  # between frames that are given no time

NULL, ETHERNET, RAW, LOOP, SLL, RAW_IPV4, RAW_IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276


class Layer(bytes):
    """Bytes that know how the layer around them calls them: by EtherType, or by IP protocol number."""

    ethertype: int = 0
    protocol: int = 0


def layer(content: bytes, ethertype: int = 0, protocol: int = 0) -> Layer:
    """`content` as a layer."""
    made = Layer(content)
    made.ethertype, made.protocol = ethertype, protocol
    return made


# --- link layer ---------------------------------------------------------------------------------------------------------------------------


def ethernet(inner: bytes, vlans: Sequence[tuple[int, int]] = (), ethertype: int | None = None) -> Layer:
    """`vlans`: (tag protocol, VLAN number) from the outside in, such as (0x88A8, 10), (0x8100, 20)."""
    tags = b"".join(struct.pack("!HH", protocol, number) for protocol, number in vlans)
    return layer(b"\x02" + bytes(10) + b"\x01" + tags + struct.pack("!H", _ethertype(inner, ethertype)) + inner, ethertype=0x6558)


def sll(inner: bytes, kind: int = 0) -> bytes:
    """Linux "cooked" header, version 1. `kind` is the packet type: 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 from us."""
    return struct.pack("!HHH8sH", kind, 1, 6, bytes(8), _ethertype(inner, None)) + inner


def sll2(inner: bytes, ifindex: int = 2, kind: int = 0) -> bytes:
    """Linux "cooked" header, version 2."""
    return struct.pack("!HHIHBB8s", _ethertype(inner, None), 0, ifindex, 1, kind, 6, bytes(8)) + inner


def null(inner: bytes, big: bool = False) -> bytes:
    """BSD loopback header, in the byte order of the capturing host; LINKTYPE_LOOP is the same in network byte order."""
    return struct.pack(">I" if big else "<I", 2 if _ethertype(inner, None) == 0x0800 else 30) + inner


def arp() -> Layer:
    """A request of nobody for nobody."""
    return layer(struct.pack("!HHBBH20s", 1, 0x0800, 6, 4, 1, bytes(20)), ethertype=0x0806)


def _ethertype(inner: bytes, given: int | None) -> int:
    return given if given is not None else getattr(inner, "ethertype", 0)


# --- network layer ------------------------------------------------------------------------------------------------------------------------


def ip4(
    src: str, dst: str, inner: bytes, *, ttl: int = 64, ip_id: int = 1, options: bytes = b"", offset: int = 0, more: bool = False,
    total: int | None = None, protocol: int | None = None,
) -> Layer:  # fmt: skip
    """`offset` (in units of 8 bytes) and `more` make it a fragment; `total` is the length it claims to have."""
    options += bytes(-len(options) % 4)
    header = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | header // 4, 0, header + len(inner) if total is None else total, ip_id, more << 13 | offset, ttl,
        _protocol(inner, protocol), 0, IPv4Address(src).packed, IPv4Address(dst).packed,
    ) + options  # fmt: skip
    return layer(head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + inner, ethertype=0x0800, protocol=4)


@dataclass(frozen=True)
class Extension:
    """An IPv6 extension header without its first byte, which names the next one."""

    number: int
    rest: bytes


def hop_by_hop(size: int = 8) -> Extension:
    """RFC 8200, 4.3; `size` bytes, a multiple of 8, of padding. The others are alike."""
    return Extension(0, bytes([size // 8 - 1, 1, size - 4]) + bytes(size - 4))


def destination(size: int = 8) -> Extension:
    return Extension(60, hop_by_hop(size).rest)


def routing(size: int = 24) -> Extension:
    """A header of the experimental type 253 (RFC 4727) that is used up."""
    return Extension(43, bytes([size // 8 - 1, 253, 0]) + bytes(size - 4))


def authentication(size: int = 24) -> Extension:
    """RFC 4302."""
    return Extension(51, bytes([size // 4 - 2, 0, 0]) + bytes(size - 4))


def fragment(ip_id: int, offset: int = 0, more: bool = False) -> Extension:
    """RFC 8200, 4.5; `offset` in units of 8 bytes."""
    return Extension(44, struct.pack("!BHI", 0, offset << 3 | more, ip_id))


def ip6(
    src: str, dst: str, inner: bytes, *extensions: Extension, hops: int = 64, length: int | None = None, protocol: int | None = None
) -> Layer:  # fmt: skip
    """`length` is what it claims to carry."""
    following, behind = _protocol(inner, protocol), inner
    for extension in reversed(extensions):
        following, behind = extension.number, bytes([following]) + extension.rest + behind
    head = struct.pack("!IHBB", 6 << 28, len(behind) if length is None else length, following, hops)
    return layer(head + IPv6Address(src).packed + IPv6Address(dst).packed + behind, ethertype=0x86DD, protocol=41)


def _protocol(inner: bytes, given: int | None) -> int:
    return given if given is not None else getattr(inner, "protocol", 0)


def _checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    return ~(total % 0xFFFF) & 0xFFFF


# --- transport layer ----------------------------------------------------------------------------------------------------------------------

NOP = b"\x01"
SACK_PERMITTED = b"\x04\x02"


def mss(size: int) -> bytes:
    return struct.pack("!BBH", 2, 4, size)


def scale(shift: int) -> bytes:
    return struct.pack("!BBB", 3, 3, shift)


def sack(*blocks: tuple[int, int]) -> bytes:
    return struct.pack("!BB", 5, 2 + 8 * len(blocks)) + b"".join(struct.pack("!II", *block) for block in blocks)


def timestamps(value: int, echo: int = 0) -> bytes:
    return struct.pack("!BBII", 8, 10, value, echo)


def tcp(
    sport: int, dport: int, flags: str = "A", payload: bytes = b"", *, seq: int = 1, ack: int = 0, window: int = 501, options: bytes = b""
) -> Layer:  # fmt: skip
    """`flags`: letters of FSRPAUEC. `options` are padded to a multiple of four bytes."""
    options += bytes(-len(options) % 4)
    bits = sum(1 << "FSRPAUEC".index(letter) for letter in flags)
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, (20 + len(options)) // 4 << 4, bits, window, 0, 0)
    return layer(head + options + payload, protocol=6)


def udp(sport: int, dport: int, payload: bytes = b"") -> Layer:
    return layer(struct.pack("!HHHH", sport, dport, 8 + len(payload) & 0xFFFF, 0) + payload, protocol=17)


def sctp(sport: int, dport: int, tag: int, *chunks: bytes) -> Layer:
    """RFC 9260, 3."""
    return layer(struct.pack("!HHII", sport, dport, tag, 0) + b"".join(chunks), protocol=132)


def chunk(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBH", kind, 3 if kind == 0 else 0, 4 + len(body)) + body + bytes(-len(body) % 4)


def sctp_data(tsn: int, payload: bytes, stream: int = 0) -> bytes:
    return chunk(0, struct.pack("!IHHI", tsn, stream, 0, 0) + payload)


def sctp_init(tag: int, tsn: int = 1, answer: bool = False) -> bytes:
    """INIT, or INIT ACK with a state cookie."""
    return chunk(2 if answer else 1, struct.pack("!IIHHI", tag, 65_536, 1, 1, tsn) + (struct.pack("!HHI", 7, 8, 9) if answer else b""))


def echo(ident: int, seq: int, payload: bytes = b"", answer: bool = False) -> Layer:
    return layer(struct.pack("!BBHHH", 0 if answer else 8, 0, 0, ident, seq) + payload, protocol=1)


def echo6(ident: int, seq: int, payload: bytes = b"", answer: bool = False) -> Layer:
    return layer(struct.pack("!BBHHH", 129 if answer else 128, 0, 0, ident, seq) + payload, protocol=58)


def icmp(kind: int, code: int, embedded: bytes) -> Layer:
    """An error about `embedded`: a packet, or the beginning of one."""
    return layer(struct.pack("!BBHI", kind, code, 0, 0) + embedded, protocol=1)


def icmp6(kind: int, code: int, embedded: bytes) -> Layer:
    return layer(struct.pack("!BBHI", kind, code, 0, 0) + embedded, protocol=58)


# --- tunnels ------------------------------------------------------------------------------------------------------------------------------


def vxlan(vni: int, frame: bytes, flags: int = 8) -> bytes:
    """RFC 7348, 5: the payload of a UDP datagram."""
    return struct.pack("!II", flags << 24, vni << 8) + frame


def geneve(vni: int, inner: bytes, options: bytes = b"") -> bytes:
    """RFC 8926, 3.4; `inner` is an Ethernet frame or an IP packet."""
    return struct.pack("!BBHI", len(options) // 4, 0, _ethertype(inner, None), vni << 8) + options + inner


def gre(inner: bytes, *, key: int | None = None, checksum: bool = False, sequence: int | None = None) -> Layer:
    """RFC 2784 and 2890; `inner` is an Ethernet frame or an IP packet."""
    flags = checksum << 15 | (key is not None) << 13 | (sequence is not None) << 12
    fields = bytes(4) if checksum else b""
    fields += b"".join(struct.pack("!I", field) for field in (key, sequence) if field is not None)
    return layer(struct.pack("!HH", flags, _ethertype(inner, None)) + fields + inner, protocol=47)


# --- files --------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A frame with its time, and its length on the wire where it was cut."""

    frame: bytes
    time_ns: int = START_NS
    wire: int | None = None


def records(frames: Iterable[bytes | Record]) -> list[Record]:
    """Plain frames get times STEP_NS apart."""
    return [each if isinstance(each, Record) else Record(each, START_NS + number * STEP_NS) for number, each in enumerate(frames)]


def pcap(
    frames: Iterable[bytes | Record], link_type: int = ETHERNET, *, big: bool = False, nano: bool = True, snaplen: int = 262_144
) -> bytes:
    order = ">" if big else "<"
    parts = [struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, link_type)]
    for record in records(frames):
        seconds, rest = divmod(record.time_ns, 1_000_000_000)
        wire = len(record.frame) if record.wire is None else record.wire
        parts += [struct.pack(order + "IIII", seconds, rest if nano else rest // 1000, len(record.frame), wire), record.frame]
    return b"".join(parts)


class PcapNg:
    """A pcapng file, block by block: `bytes(PcapNg().section().interface(SLL2, "any").packet(frame))`.

    Times are given in ns and written in the interface's units, `resolution`: n for 10^-n s, -n for 2^-n s.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._order = "<"
        self._clocks: list[tuple[int, int]] = []  # (resolution, offset_s) of each interface of the section
        self._count = 0

    def __bytes__(self) -> bytes:
        return b"".join(self._blocks)

    def block(self, kind: int, body: bytes) -> PcapNg:
        """Any block, by number."""
        body += bytes(-len(body) % 4)
        length = struct.pack(self._order + "I", 12 + len(body))
        self._blocks.append(struct.pack(self._order + "I", kind) + length + body + length)
        return self

    def options(self, *pairs: tuple[int, bytes | None]) -> bytes:
        """Those that are not None, and the end mark if there are any."""
        made = b"".join(
            struct.pack(self._order + "HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in pairs if value is not None
        )
        return made + bytes(4) if made else b""

    def section(self, *, big: bool = False, comment: str | None = None) -> PcapNg:
        self._order, self._clocks = ">" if big else "<", []
        return self.block(0x0A0D0D0A, struct.pack(self._order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + self.options((1, _bytes(comment))))

    def interface(
        self, link_type: int = ETHERNET, name: str | None = None, *, snaplen: int = 0, resolution: int | None = 9,
        offset_s: int | None = None, comment: str | None = None,
    ) -> PcapNg:  # fmt: skip
        """`resolution` None leaves the option out, which means microseconds."""
        self._clocks.append((6 if resolution is None else resolution, offset_s or 0))
        unit = None if resolution is None else bytes([resolution if resolution >= 0 else 0x80 | -resolution])
        shift = None if offset_s is None else struct.pack(self._order + "q", offset_s)
        options = self.options((1, _bytes(comment)), (2, _bytes(name)), (9, unit), (14, shift))
        return self.block(1, struct.pack(self._order + "HHI", link_type, 0, snaplen) + options)

    def packet(
        self, frame: bytes, time_ns: int | None = None, *, interface: int = 0, direction: int | None = None, comments: Sequence[str] = (),
        wire: int | None = None,
    ) -> PcapNg:  # fmt: skip
        """`direction`: 1 in, 2 out."""
        options = self.options(*((1, _bytes(each)) for each in comments), (2, self._flags(direction)))
        head = struct.pack(self._order + "I", interface) + self._head(frame, time_ns, interface, wire)
        return self.block(6, head + frame + bytes(-len(frame) % 4) + options)

    def old_packet(self, frame: bytes, time_ns: int | None = None, *, interface: int = 0, direction: int | None = None) -> PcapNg:
        """The obsolete packet block."""
        options = self.options((2, self._flags(direction)))
        head = struct.pack(self._order + "HH", interface, 0) + self._head(frame, time_ns, interface, None)
        return self.block(2, head + frame + bytes(-len(frame) % 4) + options)

    def simple_packet(self, frame: bytes, wire: int | None = None) -> PcapNg:
        return self.block(3, struct.pack(self._order + "I", len(frame) if wire is None else wire) + frame)

    def statistics(self, interface: int = 0, *, dropped: int | None = None, dropped_by_os: int | None = None) -> PcapNg:
        counts = ((5, dropped), (7, dropped_by_os))
        options = self.options(*((code, None if count is None else struct.pack(self._order + "Q", count)) for code, count in counts))
        return self.block(5, struct.pack(self._order + "III", interface, 0, 0) + options)

    def _flags(self, direction: int | None) -> bytes | None:
        return None if direction is None else struct.pack(self._order + "I", direction)

    def _head(self, frame: bytes, time_ns: int | None, interface: int, wire: int | None) -> bytes:
        time_ns = START_NS + self._count * STEP_NS if time_ns is None else time_ns
        self._count += 1
        resolution, offset_s = self._clocks[interface] if interface < len(self._clocks) else (9, 0)
        units = 10**resolution if resolution >= 0 else 1 << -resolution
        ticks = (time_ns - offset_s * 1_000_000_000) * units // 1_000_000_000
        return struct.pack(self._order + "IIII", ticks >> 32, ticks & 0xFFFF_FFFF, len(frame), len(frame) if wire is None else wire)


def _bytes(words: str | None) -> bytes | None:
    return None if words is None else words.encode()


def gzipped(content: bytes, members: int = 1) -> bytes:
    """`content` in so many gzip members."""
    step = -(-len(content) // members) or 1
    return b"".join(gzip.compress(content[start : start + step], 1, mtime=0) for start in range(0, max(len(content), 1), step))


def zstd(content: bytes, frames: int = 1) -> bytes:
    """`content` in so many Zstandard frames."""
    step = -(-len(content) // frames) or 1
    return b"".join(zstandard.compress(content[start : start + step], 1) for start in range(0, max(len(content), 1), step))


# --- reading ------------------------------------------------------------------------------------------------------------------------------


def read(file: bytes) -> Capture:
    """The capture in `file`, which is called "file" and is of the node "node"."""
    return read_capture(io.BytesIO(file), "file", "node")


def observe(*frames: bytes, link_type: int = ETHERNET) -> list[dict[str, Any]]:
    """What is decoded from `frames`, a dict for each row."""
    return rows(read(pcap(frames, link_type)).observations)


def rows(table: Table) -> list[dict[str, Any]]:
    """The rows of `observations` as dicts, with addresses as text in `src` and `dst`."""
    columns: dict[str, list[Any]] = {name: column.tolist() for name, column in table.items()}
    for end in ("src", "dst"):
        columns[end] = [text(*halves) for halves in zip(columns.pop(f"{end}_hi"), columns.pop(f"{end}_lo"), strict=True)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
