"""Numbers and addresses as text, read in machine code from bytes: for kernels that scan lines."""

from __future__ import annotations

import numpy as np

from probes.jit import inside
from probes.schema import Array

_DOT, _ZERO, _NINE, _COLON = b".09:"


@inside
def number(content: Array, at: int, stop: int) -> int:
    """The decimal number that fills [at, stop); -1 where it is none, or longer than 18 digits."""
    if at >= stop or stop - at > 18:
        return -1
    value = 0
    for place in range(at, stop):
        digit = int(np.int64(content[place]))  # not the byte's own type, which would overflow where this runs uncompiled
        if digit < _ZERO or digit > _NINE:
            return -1
        value = value * 10 + (digit - _ZERO)
    return value


@inside
def _hexadecimal(byte: int) -> int:
    """Value of a hexadecimal digit; -1 where it is none."""
    byte = int(np.int64(byte))
    if _ZERO <= byte <= _NINE:
        return byte - _ZERO
    lower = byte | 0x20
    return lower - 87 if 97 <= lower <= 102 else -1


@inside
def _dotted(content: Array, at: int, stop: int, groups: Array, first: int) -> bool:
    """A dotted quad into two 16-bit groups from `first`."""
    part = 0
    begin = at
    for place in range(at, stop + 1):
        if place == stop or content[place] == _DOT:
            value = number(content, begin, place)
            if value < 0 or value > 255 or place - begin > 3 or part > 3:
                return False
            group = first + part // 2
            groups[group] = value if part % 2 == 0 else groups[group] * 256 + value
            part += 1
            begin = place + 1
    return part == 4


@inside
def _group(content: Array, at: int, stop: int, groups: Array, count: int) -> int:
    """One group of up to four hexadecimal digits from `at`; the place after it, or -1."""
    place, value = at, 0
    while place < stop and place - at < 4 and _hexadecimal(content[place]) >= 0:
        value = value * 16 + _hexadecimal(content[place])
        place += 1
    if place == at or count > 7:
        return -1
    groups[count] = value
    return place


@inside
def _colons(content: Array, at: int, stop: int, groups: Array) -> bool:
    """RFC 4291, 2.2: eight groups, `::` once for one group of zeros or more, and perhaps a dotted quad at the end."""
    count, gap, place = 0, -1, at
    if stop - at >= 2 and content[at] == _COLON and content[at + 1] == _COLON:
        gap = 0
        place = at + 2
    while place < stop:
        begin = place
        place = _group(content, begin, stop, groups, count)
        if place < 0:
            return False
        count += 1
        if place == stop:
            break
        if content[place] == _DOT:
            count += 1
            if count > 8 or not _dotted(content, begin, stop, groups, count - 2):
                return False
            break
        place += 1
        if content[place - 1] != _COLON or place == stop:
            return False
        if content[place] == _COLON:
            if gap >= 0:
                return False
            gap = count
            place += 1
    if gap < 0:
        return count == 8
    after = count - gap  # what came after `::` moves to the end
    for moved in range(after):
        groups[7 - moved] = groups[count - 1 - moved]
    groups[gap : 8 - after] = 0
    return count < 8


@inside
def address(content: Array, at: int, stop: int, groups: Array) -> bool:
    """Read the address that fills [at, stop) (inet_ntop(3)'s form or the kernel's %pI6) into eight 16-bit groups; False where it is none.

    IPv4 becomes IPv4-mapped.
    """
    groups[:] = 0
    for place in range(at, stop):
        if content[place] == _COLON:
            return _colons(content, at, stop, groups)
    groups[5] = 0xFFFF
    return _dotted(content, at, stop, groups, 6)
