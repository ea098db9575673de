"""Lines of conntrack's text to numbers, in machine code: 60,000 connections' worth of events must not cost a second each.

A line is tokens between blanks: an optional time and event in brackets, words up to the first `src=`, then `key=value` twice over (the
original direction, then the reply), then what concerns both. The second `src=` begins the reply.
"""

from __future__ import annotations

import numpy as np

from probes.conntrack.digits import address, number
from probes.conntrack.rows import ASSURED, EVENTS, LAST_SECOND, REPLIED
from probes.jit import bare, inside
from probes.schema import Array

# Places in a row of `numbers`. Ports of the reply follow those of the original direction.
TIME, ID, PROTO, EVENT, FLAGS, PORTS, START_AT, DELTA, NUMBERS = 0, 1, 2, 3, 4, 5, 9, 10, 11
UNKNOWN = -1
_NEWLINE, _RETURN, _TAB, _BLANK, _HASH, _DOT, _ZERO, _NINE, _COLON, _EQUALS, _OPEN, _CLOSE = b"\n\r\t #.09:=[]"
_TOKEN_MASK = (1 << 56) - 1  # a token is known by its last seven bytes


def _name(text: bytes) -> int:
    return int.from_bytes(text[-7:], "big")


# Keys by field: those up to _ICMP_ID must be printed alike for both directions, the others are about accounting or the whole entry.
_KEYS = (b"src", b"dst", b"sport", b"dport", b"type", b"code", b"srckey", b"dstkey", b"id", b"packets", b"bytes", b"delta-time", b"[start")
_SRC, _DST, _SPORT, _DPORT, _TYPE, _CODE, _SRCKEY, _DSTKEY, _ICMP_ID, _PACKETS, _BYTES, _DELTA, _START = range(len(_KEYS))
_FIELDS = np.array([_name(key) for key in _KEYS], "i8")
_TUPLE_MASK = (1 << _ICMP_ID + 1) - 1
_EVENT_NAMES = np.array([_name(f"[{name}]".upper().encode()) for name in EVENTS], "i8")
_UNREPLIED, _ASSURED, _IPV4, _IPV6 = (_name(text) for text in (b"[UNREPLIED]", b"[ASSURED]", b"ipv4", b"ipv6"))
_DUMP = EVENTS["dump"]


@inside
def _time(content: Array, at: int, stop: int, numbers: Array) -> int:
    """`[seconds.fraction]` from `at`, where the bracket is; the place after it, or -1.

    Up to six digits of fraction are microseconds: padded with zeros or, where `%-6ld` printed them, with blanks: `.5054  ` is 5054 µs.
    """
    dot = at + 1
    while dot < stop and content[dot] != _DOT:
        dot += 1
    end = dot + 1
    while end < stop and _ZERO <= content[end] <= _NINE:
        end += 1
    seconds = number(content, at + 1, dot)
    fraction = number(content, dot + 1, end)
    digits = end - dot - 1
    while end < stop and content[end] == _BLANK:
        end += 1
    if seconds < 0 or seconds > LAST_SECOND or fraction < 0 or digits > 9 or end >= stop or content[end] != _CLOSE:
        return -1
    numbers[TIME] = seconds * 1_000_000_000 + (fraction * 1000 if digits <= 6 else fraction * 10 ** (9 - digits))
    return end + 1


@inside
def _event(token: int) -> int:
    for event in range(len(_EVENT_NAMES)):
        if _EVENT_NAMES[event] == token:
            return event
    return -1


@inside
def _head(content: Array, at: int, stop: int, numbers: Array) -> int:
    """What stands before the first `src=`: time, event, family, protocol, seconds to live, state. The place of `src=`, or -1."""
    words = 0
    while True:
        while at < stop and (content[at] == _BLANK or content[at] == _TAB):
            at += 1
        if at + 4 >= stop:
            return -1
        if content[at] == _OPEN and _ZERO <= content[at + 1] <= _NINE:
            at = _time(content, at, stop, numbers)
            if at < 0:
                return -1
            continue
        begin, token, equals = at, 0, False
        while at < stop and content[at] != _BLANK and content[at] != _TAB:
            token = (token << 8 | int(np.int64(content[at]))) & _TOKEN_MASK
            equals = equals or content[at] == _EQUALS
            at += 1
        if equals:
            return begin if words >= 2 else -1
        if content[begin] == _OPEN:
            numbers[EVENT] = _event(token)
            if numbers[EVENT] < 0:
                return -1
        elif words == 0 and token in (_IPV4, _IPV6):
            words = -1  # its number follows, then the protocol
        else:
            if words == 1:
                numbers[PROTO] = number(content, begin, at)
            words += 1


@inside
def _field(token: int) -> int:
    """Which of _KEYS a token names; -1 where none."""
    for known in range(len(_FIELDS)):
        if _FIELDS[known] == token:
            return known
    return -1


@inside
def _flag(token: int, numbers: Array) -> None:
    if token == _UNREPLIED:
        numbers[FLAGS] &= ~REPLIED
    elif token == _ASSURED:
        numbers[FLAGS] |= ASSURED


@inside
def _store(content: Array, at: int, stop: int, field: int, direction: int, numbers: Array, groups: Array) -> bool:
    """Put the value [at, stop) of a field where it belongs; False where it is no address, port or id."""
    if field in (_SRC, _DST):
        return address(content, at, stop, groups[direction * 2 + field])
    if field in (_SPORT, _DPORT, _ICMP_ID):
        port = number(content, at, stop)
        if field != _DPORT:
            numbers[PORTS + direction * 2] = port
        if field != _SPORT:  # an ICMP identifier stands for both ports
            numbers[PORTS + direction * 2 + 1] = port
        return 0 <= port <= 0xFFFF
    if field == _DELTA:
        numbers[DELTA] = number(content, at, stop)
    return True


@inside
def _entry(content: Array, at: int, stop: int, numbers: Array, groups: Array) -> bool:  # noqa: PLR0912 - calls cost more than branches
    """One line [at, stop) into a row of `numbers` and of `groups` ((4, 8): source and destination, original then reply)."""
    numbers[:] = UNKNOWN
    numbers[EVENT] = _DUMP
    numbers[FLAGS] = REPLIED
    numbers[PORTS : PORTS + 4] = 0
    at = _head(content, at, stop, numbers)
    if at < 0 or numbers[PROTO] < 0 or numbers[PROTO] > 255:
        return False
    direction, seen, original_seen = -1, 0, 0
    while at < stop:
        begin, token, value_at = at, 0, -1
        while at < stop and content[at] != _BLANK and content[at] != _TAB:
            if content[at] == _EQUALS and value_at < 0:
                value_at = at + 1
            if value_at < 0:
                token = (token << 8 | int(np.int64(content[at]))) & _TOKEN_MASK
            at += 1
        field = -1
        if value_at < 0:
            _flag(token, numbers)
        else:
            field = _field(token)
        if field == _SRC:
            direction += 1
            original_seen, seen = seen, 0
        bit = 1 << field if field >= 0 else 0
        if field == _ICMP_ID and (seen >> _CODE & 1 == 0 or seen & bit):
            # Not ICMP's identifier but conntrack's: once, and after the reply tuple.
            repeated = numbers[ID] != UNKNOWN
            bit = 0
            numbers[ID] = number(content, value_at, at)
            if repeated or direction == 0:
                return False
        elif not 0 <= direction <= 1 or seen & bit or not _store(content, value_at, at, field, direction, numbers, groups):
            return False
        if field == _START:
            numbers[START_AT] = begin
        seen |= bit
        while at < stop and (content[at] == _BLANK or content[at] == _TAB):
            at += 1
    paired = (seen >> _SPORT & 1) == (seen >> _DPORT & 1) and (seen >> _CODE & 1) == (seen >> _ICMP_ID & 1)
    return direction == 1 and paired and seen >> _DST & 1 == 1 and (seen ^ original_seen) & _TUPLE_MASK == 0


@bare
def scan(content: Array, numbers: Array, groups: Array, bad: Array) -> tuple[int, int]:
    """Read every line of `content` (u1, ending in a newline); how many are entries, and how many are not.

    Entries go into `numbers` (i8, (lines, NUMBERS)) and `groups` (u2, (lines, 4, 8)), the places of lines that are none into `bad`
    (i8, (lines,)). Empty lines and comments are neither.
    """
    count, bad_count, at = 0, 0, 0
    while at < len(content):
        end = at
        while content[end] != _NEWLINE:
            end += 1
        begin, stop = at, end
        while begin < stop and (content[begin] == _BLANK or content[begin] == _TAB):
            begin += 1
        while stop > begin and (content[stop - 1] == _RETURN or content[stop - 1] == _BLANK):
            stop -= 1
        if begin < stop and content[begin] != _HASH:
            if _entry(content, begin, stop, numbers[count], groups[count]):
                count += 1
            else:
                bad[bad_count] = at
                bad_count += 1
        at = end + 1
    return count, bad_count
