"""What a table is, and the tables that capture files and kernels give.

A table is a dict of equally long one-dimensional NumPy arrays ("columns"), described by a `Schema`. The tables that reconstruction adds
(connections, translations, hops) are in `tracer.schema`, in the same form.

Addresses are 16 bytes, IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2), kept as two unsigned 64-bit columns `*_hi` and `*_lo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Table = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, NumPy dtype, unit ("" where it has none) and meaning."""

    name: str
    dtype: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of one kind of table, in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """One row as a structured dtype (aligned like a C struct), for writers that fill row by row."""
        return np.dtype([(column.name, column.dtype) for column in self.columns], align=True)

    def empty(self) -> Table:
        """A table of no rows."""
        return {column.name: np.empty(0, column.dtype) for column in self.columns}

    def check(self, table: Table) -> Table:
        """Return `table` unchanged; ValueError where its columns, dtypes or lengths are not the schema's."""
        names = [column.name for column in self.columns]
        if list(table) != names:
            raise ValueError(f"{self.name}: columns {sorted(set(table) ^ set(names)) or list(table)} are not as the schema has them")
        rows = len(table[names[0]])
        for column in self.columns:
            array = table[column.name]
            if array.dtype != np.dtype(column.dtype) or array.shape != (rows,):
                raise ValueError(f"{self.name}.{column.name}: {array.dtype}{array.shape}, expected {column.dtype}({rows},)")
        return table

    def concat(self, tables: Sequence[Table]) -> Table:
        """The rows of `tables`, one after the other."""
        if not tables:
            return self.empty()
        return {column.name: np.concatenate([table[column.name] for table in tables]) for column in self.columns}


def take(table: Table, rows: Array) -> Table:
    """The rows that `rows` (indexes or a boolean mask) selects."""
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)  # once, not for each column
    return {name: array[rows] for name, array in table.items()}


def size(table: Table) -> int:
    """Number of rows."""
    return len(next(iter(table.values())))


OBSERVATIONS = Schema(
    "observations",
    (
        Column("time_ns", "i8", "ns since the epoch", "capture time, on the clock of the machine that captured"),
        Column("frame", "i8", "", "number of the record in its file, from 1 (Wireshark's frame.number)"),
        Column("outer", "i8", "", "row of the enclosing view (tunnel's outer packet, ICMP error); -1 where none"),
        Column("src_hi", "u8", "", "source address, bytes 0-7"),
        Column("src_lo", "u8", "", "source address, bytes 8-15"),
        Column("dst_hi", "u8", "", "destination address, bytes 0-7"),
        Column("dst_lo", "u8", "", "destination address, bytes 8-15"),
        Column("payload_hash", "u8", "", "hash of the first bytes after the L4 header (decode.PAYLOAD_PREFIX); 0 where none was captured"),
        Column("point", "u4", "", "row of the observation point"),
        Column("ip_id", "u4", "", "IPv4 identification, or the IPv6 fragment header's"),
        Column("seq", "u4", "", "TCP sequence number; SCTP verification tag; ICMP echo sequence number"),
        Column("ack", "u4", "", "TCP acknowledgment number; SCTP first chunk's TSN or initiate tag"),
        Column("tsval", "u4", "", "TCP timestamp value (RFC 7323)"),
        Column("tsecr", "u4", "", "TCP timestamp echo reply"),
        Column("payload_bytes", "u4", "bytes", "L4 payload by the IP length (a GSO packet's is large); of a UDP fragment: of its datagram"),
        Column("payload_at", "u4", "bytes", "where the L4 payload begins in the frame; 0 where its header was cut or is no transport's"),
        Column("captured_bytes", "u4", "bytes", "of the frame, in the file"),
        Column("wire_bytes", "u4", "bytes", "of the frame, on the wire"),
        Column("vni", "u4", "", "tunnel's network identifier (VXLAN, Geneve) or GRE key, on the inner view"),
        Column("sport", "u2", "", "source port; ICMP echo identifier"),
        Column("dport", "u2", "", "destination port; ICMP echo identifier"),
        Column("window", "u2", "", "TCP window, unscaled"),
        Column("mss", "u2", "bytes", "TCP maximum segment size option; 0 where absent"),
        Column("fragment_offset", "u2", "8 bytes", "place of this fragment in its datagram"),
        Column("proto", "u1", "", "IANA protocol number of the innermost header"),
        Column("ttl", "u1", "", "IPv4 TTL or IPv6 hop limit"),
        Column("tcp_flags", "u1", "", "TCP flags byte; SCTP first chunk's type"),
        Column("icmp_type", "u1", "", "ICMP or ICMPv6 type"),
        Column("icmp_code", "u1", "", "ICMP or ICMPv6 code"),
        Column("view", "u1", "", "0 packet, 1 outer packet of a tunnel, 2 header embedded in an ICMP error"),
        Column("tunnel", "u1", "", "how this view is carried: 0 plainly, else decode.TUNNELS"),
        Column("direction", "u1", "", "at the interface: 0 unknown, 1 in, 2 out"),
        Column("known", "u1", "", "what was captured of L4, bits: 1 ports, 2 seq and flags, 4 TCP timestamps, 8 more fragments follow"),
    ),
)

LEDGER = Schema(
    "ledger",
    (
        Column("time_ns", "i8", "ns since the epoch", "when the line was printed; -1 where unknown"),
        Column("start_ns", "i8", "ns since the epoch", "conntrack's own start timestamp (nf_conntrack_timestamp=1); -1 where unknown"),
        Column("id", "i8", "", "conntrack's id; -1 where not printed"),
        Column("original_src_hi", "u8", "", "original direction: source address, bytes 0-7"),
        Column("original_src_lo", "u8", "", ""),
        Column("original_dst_hi", "u8", "", "original direction: destination address"),
        Column("original_dst_lo", "u8", "", ""),
        Column("reply_src_hi", "u8", "", "reply direction: source address"),
        Column("reply_src_lo", "u8", "", ""),
        Column("reply_dst_hi", "u8", "", "reply direction: destination address"),
        Column("reply_dst_lo", "u8", "", ""),
        Column("original_sport", "u2", "", "port, or ICMP identifier"),
        Column("original_dport", "u2", "", ""),
        Column("reply_sport", "u2", "", ""),
        Column("reply_dport", "u2", "", ""),
        Column("proto", "u1", "", "IANA protocol number"),
        Column("event", "u1", "", "0 line of a dump (-L), 1 NEW, 2 UPDATE, 3 DESTROY"),
        Column("flags", "u1", "", "bits: 1 reply seen (no [UNREPLIED]), 2 ASSURED"),
    ),
)


@dataclass(frozen=True, slots=True, order=True)
class ObservationPoint:
    """Where packets are seen (RFC 7011, 2): a node's interface, in one capture file.

    `interface` is the name where known, else `if<index>`; `ifindex` is -1 where the capture does not tell. `resolution_ns` is the unit of
    its time stamps.
    """

    node: str
    interface: str
    ifindex: int
    file: str
    link_type: int
    resolution_ns: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read or trusted: one clear line. Everything else was still used."""

    file: str
    what: str
    remedy: str
    offset: int | None = None  # bytes into the (decompressed) file, or the line number of a text file
    severity: str = "warning"  # "note", "warning" or "error"

    def __str__(self) -> str:
        """`file: offset N: what (remedy)`."""
        place = "" if self.offset is None else f" at {self.offset}"
        return f"{self.file}{place}: {self.what} ({self.remedy})"
