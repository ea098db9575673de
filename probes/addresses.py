"""IP addresses as pairs of 64-bit columns: text in, text out (RFC 5952 for IPv6, dotted quad for IPv4-mapped)."""

from __future__ import annotations

import functools
import ipaddress

V4_MAPPED = 0xFFFF_0000_0000
Address = tuple[int, int]


@functools.lru_cache(maxsize=1 << 16)
def parse(text: str) -> Address:
    """`(hi, lo)` of an address; IPv4 comes out IPv4-mapped. ValueError where `text` is no address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.version == 4:
        return 0, V4_MAPPED | int(address)
    return int(address) >> 64, int(address) & 0xFFFF_FFFF_FFFF_FFFF


@functools.lru_cache(maxsize=1 << 16)
def text(hi: int, lo: int) -> str:
    """The address as people write it."""
    if not is_ipv6((hi, lo)):
        return f"{lo >> 24 & 255}.{lo >> 16 & 255}.{lo >> 8 & 255}.{lo & 255}"
    return str(ipaddress.IPv6Address(hi << 64 | lo))


def is_ipv6(address: Address) -> bool:
    """Whether it is more than an IPv4 address mapped into IPv6."""
    hi, lo = address
    return hi != 0 or lo >> 32 != V4_MAPPED >> 32


def endpoint(hi: int, lo: int, port: int | None) -> str:
    """`address:port`, IPv6 in brackets; the bare address where `port` is None."""
    address = text(hi, lo)
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
