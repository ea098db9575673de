"""Messages of ctnetlink to rows of LEDGER, in machine code.

The format is include/uapi/linux/netfilter/nfnetlink_conntrack.h; the kernel fills it in net/netfilter/nf_conntrack_netlink.c. What counts
as new, update or destroy is libnetfilter_conntrack's `__parse_message_type` (src/conntrack/parse.c), and what as replied its text.
"""

from __future__ import annotations

import numpy as np

from probes.addresses import V4_MAPPED
from probes.capture.records import read16, read32
from probes.conntrack.rows import ASSURED, EVENTS, REPLIED
from probes.jit import inlined, kernel
from probes.schema import LEDGER, Array

LINK_TYPE = 253  # LINKTYPE_NETLINK
COOKED_BYTES = (
    16  # of the header that the kernel's nlmon and hopline put before the messages of a datagram (linux/netlink_diag, SLL's form)
)
NETLINK_NETFILTER = 12
# A row of LEDGER, with the columns that are alike side by side.
ENTRY = np.dtype(
    [
        ("time_ns", "i8"), ("start_ns", "i8"), ("id", "i8"), ("halves", "u8", 8), ("ports", "u2", 4),
        ("proto", "u1"), ("event", "u1"), ("flags", "u1"),
    ],
    align=True,
)  # fmt: skip
assert ENTRY.itemsize == LEDGER.dtype.itemsize
SMALLEST_BYTES = 92  # of a message with both tuples, of IPv4
_HEADERS_BYTES = 20  # nlmsghdr and nfgenmsg
_REQUEST, _MULTI, _CREATED = 0x1, 0x2, 0x600  # NLM_F_REQUEST, NLM_F_MULTI, NLM_F_EXCL | NLM_F_CREATE
_CT_NEW, _CT_DELETE = 1 << 8, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK's IPCTNL_MSG_CT_NEW and _DELETE
_DUMP, _NEW, _UPDATE, _DESTROY = (EVENTS[name] for name in ("dump", "new", "update", "destroy"))
_KIND = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ID, _ZONE, _TIMESTAMP, _TIMESTAMP_EVENT = 1, 2, 3, 12, 18, 20, 27  # CTA_*
_IP, _PROTO, _TUPLE_ZONE = 1, 2, 3  # CTA_TUPLE_*
_V4_SRC, _V4_DST, _V6_SRC, _V6_DST = 1, 2, 3, 4  # CTA_IP_*
_NUM, _SRC_PORT, _DST_PORT, _ICMP_ID, _ICMPV6_ID = 1, 2, 3, 4, 7  # CTA_PROTO_*
_START, _STOP = 1, 2  # CTA_TIMESTAMP_*
_SEEN_REPLY, _IS_ASSURED = 2, 4  # IPS_*
_GRE = 47  # its keys are no ports
_PROTOCOL, _WHOLE = 4, 7  # what a tuple must have, as bits: 1 and 2 are its addresses


@inlined
def _end(data: Array, at: int, stop: int, big: bool) -> int:
    """Where the attribute at `at` ends; -1 where it does not fit."""
    length = read16(data, at, big)
    return at + length if length >= 4 and at + length <= stop else -1


@inlined
def _read64(data: Array, at: int) -> int:
    return (read32(data, at, True) << 32) | read32(data, at + 4, True)


@inlined
def _addresses(data: Array, at: int, stop: int, big: bool, halves: Array) -> int:
    """The attributes of CTA_TUPLE_IP into `halves` (source's, destination's); which there were, as bits: 1 source, 2 destination."""
    seen = 0
    while at + 4 <= stop:
        end, kind = _end(data, at, stop, big), read16(data, at + 2, big) & _KIND
        if end < 0:
            return 0
        place = 0 if kind in (_V4_SRC, _V6_SRC) else 2
        if kind in (_V4_SRC, _V4_DST) and end - at == 8:
            halves[place], halves[place + 1] = 0, V4_MAPPED | read32(data, at + 4, True)
            seen |= 1 + place // 2
        elif kind in (_V6_SRC, _V6_DST) and end - at == 20:
            halves[place], halves[place + 1] = _read64(data, at + 4), _read64(data, at + 12)
            seen |= 1 + place // 2
        at = (end + 3) & ~3
    return seen


@inlined
def _ports(data: Array, at: int, stop: int, big: bool, ports: Array) -> int:
    """The attributes of CTA_TUPLE_PROTO into `ports` (source's, destination's; an ICMP identifier is both); the protocol, or -1."""
    proto = -1
    while at + 4 <= stop:
        end, kind = _end(data, at, stop, big), read16(data, at + 2, big) & _KIND
        if end < 0:
            return -1
        if kind == _NUM and end - at == 5:
            proto = int(np.int64(data[at + 4]))
        elif end - at == 6:
            value = read16(data, at + 4, True)
            if kind in (_SRC_PORT, _ICMP_ID, _ICMPV6_ID):
                ports[0] = value
            if kind in (_DST_PORT, _ICMP_ID, _ICMPV6_ID):
                ports[1] = value
        at = (end + 3) & ~3
    if proto == _GRE:
        ports[:] = 0
    return proto


@inlined
def _tuple(data: Array, at: int, stop: int, big: bool, side: int, row: Array, zones: Array) -> bool:
    """CTA_TUPLE_ORIG (`side` 0) or CTA_TUPLE_REPLY (1) into `row`; whether it is whole."""
    seen = 0
    while at + 4 <= stop:
        end, kind = _end(data, at, stop, big), read16(data, at + 2, big) & _KIND
        if end < 0:
            return False
        if kind == _IP:
            seen |= _addresses(data, at + 4, end, big, row["halves"][4 * side : 4 * side + 4])
        elif kind == _PROTO:
            proto = _ports(data, at + 4, end, big, row["ports"][2 * side : 2 * side + 2])
            if proto >= 0:
                row["proto"] = proto
                seen |= _PROTOCOL
        elif kind == _TUPLE_ZONE and end - at == 6:
            zones[read16(data, at + 4, True)] = True
        at = (end + 3) & ~3
    return seen == _WHOLE


@inlined
def _timestamp(data: Array, at: int, stop: int, big: bool, row: Array) -> None:
    """CTA_TIMESTAMP: when conntrack began the entry and, in its last message, when it ended."""
    while at + 12 <= stop:
        end, kind = _end(data, at, stop, big), read16(data, at + 2, big) & _KIND
        if end < 0:
            return
        if kind == _START and end - at == 12:
            row["start_ns"] = _read64(data, at + 4)
        elif kind == _STOP and end - at == 12 and row["event"] == _DESTROY:
            row["time_ns"] = _read64(data, at + 4)
        at = (end + 3) & ~3


@inlined
def _entry(data: Array, at: int, stop: int, big: bool, row: Array, zones: Array) -> bool:
    """The attributes of one message into `row`, whose time and event are there; False where it has not both tuples."""
    row["start_ns"], row["id"], row["flags"] = -1, -1, REPLIED
    row["ports"][:] = 0
    tuples = 0
    while at + 4 <= stop:
        end, kind = _end(data, at, stop, big), read16(data, at + 2, big) & _KIND
        if end < 0:
            return False
        size = end - at - 4
        if kind in (_TUPLE_ORIG, _TUPLE_REPLY):
            if not _tuple(data, at + 4, end, big, kind - _TUPLE_ORIG, row, zones):
                return False
            tuples |= kind
        elif kind == _STATUS and size == 4:
            status = read32(data, at + 4, True)
            row["flags"] = (REPLIED if status & _SEEN_REPLY else 0) | (ASSURED if status & _IS_ASSURED else 0)
        elif kind == _ID and size == 4:
            row["id"] = read32(data, at + 4, True)
        elif kind == _ZONE and size == 2:
            zones[read16(data, at + 4, True)] = True
        elif kind == _TIMESTAMP:
            _timestamp(data, at + 4, end, big, row)
        elif kind == _TIMESTAMP_EVENT and size == 8:
            row["time_ns"] = _read64(data, at + 4)
        at = (end + 3) & ~3
    return tuples == _TUPLE_ORIG | _TUPLE_REPLY


@inlined
def _event(kind: int, flags: int) -> int:
    """LEDGER.event of a message of type `kind`; -1 where it tells of no entry: another subsystem's, or somebody's request."""
    if flags & _REQUEST or kind not in (_CT_NEW, _CT_DELETE):
        return -1
    if kind == _CT_DELETE:
        return _DESTROY
    if flags & _MULTI:
        return _DUMP
    return _NEW if flags & _CREATED else _UPDATE


@kernel
def read_messages(data: Array, frames: Array, link_types: Array, rows: Array, zones: Array) -> tuple[int, int, int]:
    """Decode the netlink messages of `frames` (FRAME) in `data` (u1) into `rows` (ENTRY), which must have one per SMALLEST_BYTES of frames.

    `(rows filled, messages damaged or cut, index of the first such frame)`. `link_types` are those of the file's interfaces; frames of
    others than LINK_TYPE are passed over. `zones` (bool, 65,536) learns which conntrack zones are named.
    """
    count, bad, first_bad = 0, 0, -1
    for index in range(len(frames)):
        frame = frames[index]
        at = frame["offset"] + COOKED_BYTES
        stop = frame["offset"] + frame["captured"]
        if link_types[frame["interface"]] != LINK_TYPE or at > stop or read16(data, at - 2, True) != NETLINK_NETFILTER:
            continue
        damaged = 0
        while at + 16 <= stop:
            # in the byte order of the machine that wrote it, which the length tells: no message has 16 MiB
            big = read32(data, at, True) < read32(data, at, False)
            length = read32(data, at, big)
            if length < 16 or at + length > stop:
                damaged += 1
                break
            event = _event(read16(data, at + 4, big), read16(data, at + 6, big))
            if event >= 0:
                row = rows[count]
                row["time_ns"], row["event"] = frame["time_ns"], event
                if _entry(data, at + _HEADERS_BYTES, at + length, big, row, zones):
                    count += 1
                else:
                    damaged += 1
            at += (length + 3) & ~3
        if at < stop and at + 16 > stop:  # less than a header is left
            damaged += 1
        if damaged and first_bad < 0:
            first_bad = index
        bad += damaged
    return count, bad, first_bad
