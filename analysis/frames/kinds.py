"""Choices that are tables: what lies between two hops, and which statuses are errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]

# The first that holds of a hop and the one before it.
HOP_KINDS: dict[str, tuple[str, Callable[[Record, Record], bool]]] = {
    "tunnel": ("to another node, inside a tunnel", lambda a, b: a["node"] != b["node"] and bool(a["tunnel"] or b["tunnel"])),
    "network": ("to another node, plain", lambda a, b: a["node"] != b["node"]),
    "nat": ("on one node, from before to after a translation", lambda a, b: (a["src"], a["dst"]) != (b["src"], b["dst"])),
    "encapsulation": ("on one node, into a tunnel or out of it", lambda a, b: (a["tunnel"] is None) != (b["tunnel"] is None)),
    "local": ("on one node, between interfaces: bridge, routing", lambda _a, _b: True),
}


def hop_kind(before: Record, hop: Record) -> str:
    """One of HOP_KINDS, for two hops that follow one another on one path."""
    return next(kind for kind, (_, holds) in HOP_KINDS.items() if holds(before, hop))


FAILED = frozenset({"refused", "timeout", "reset"})
UNTOLD = frozenset({"open", "closed"})


def _http(status: str) -> bool:
    return len(status) == 3 and status[0] in "45"  # RFC 9110, 15


_ERRORS: dict[str, Callable[[str], bool]] = {
    "http": _http,
    "http2": _http,
    "grpc": lambda status: status != "OK",
    "dns": lambda status: status not in ("NOERROR", "NXDOMAIN"),  # a search list asks for many names that do not exist
}


def is_error(protocol: str, status: str | None) -> bool | None:
    """Whether a request failed; None where its status is not known."""
    if status is None:
        return None
    if status in FAILED or status in UNTOLD:
        return status in FAILED
    told = _ERRORS.get(protocol)
    return status.startswith("error") if told is None else told(status)
