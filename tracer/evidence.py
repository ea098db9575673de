"""Why two things were joined, and how much a join on that evidence is worth.

A connection keeps all its evidence as bits; its confidence is that of the strongest kind it has.
"""

from __future__ import annotations

import functools

ISN, SEQ, TSVAL, PAYLOAD, IP_ID, CONNTRACK, TUPLE, VERIFICATION_TAG, MSS, PORT_RANGE, TTL, SOCKET, CONNECT = (1 << bit for bit in range(13))

EVIDENCE: dict[int, tuple[str, float]] = {  # bit: (name in the output, confidence of a join that rests on it alone)
    ISN: ("isn", 0.99),  # 32 bits of initial sequence number, with timestamp or IP ID (RFC 9293, 3.4.1)
    SEQ: ("seq", 0.99),  # sequence and acknowledgment numbers of one segment
    TSVAL: ("tsval", 0.99),  # RFC 7323 timestamps, beside seq
    VERIFICATION_TAG: ("vtag", 0.99),  # RFC 9260, 8.5
    CONNTRACK: ("conntrack", 0.98),  # the kernel's own record
    CONNECT: ("connect", 0.98),  # the address that the application gave to connect(), and the one that its socket got
    SOCKET: ("socket", 0.98),  # the socket's own ends, beside those of its first packet
    PAYLOAD: ("payload", 0.95),  # equal first bytes and length within a second on one node
    IP_ID: ("ip-id", 0.93),
    TUPLE: ("tuple", 0.97),  # the same addresses and ports at the same time
    MSS: ("mss", 0.96),
    PORT_RANGE: ("port-range", 0.95),
    TTL: ("ttl", 0.95),
}


def names(bits: int) -> list[str]:
    """The evidence in `bits`, strongest first as the table has it."""
    return list(_names(bits))


@functools.cache
def _names(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, (name, _) in EVIDENCE.items() if bits & bit)


def confidence(bits: int) -> float:
    """That of the strongest evidence; two independent kinds together leave half the doubt. Without any, one point alone saw it."""
    each = sorted((worth for bit, (_, worth) in EVIDENCE.items() if bits & bit), reverse=True)
    if not each:
        return 0.95
    return each[0] if len(each) == 1 else 1 - (1 - each[0]) / 2
