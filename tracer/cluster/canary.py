"""ingress-nginx's canaries: a second backend beside the first, by header, by cookie or by chance.

As rootfs/etc/nginx/lua/balancer.lua decides (route_to_alternative_balancer), which looks at the first canary only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tracer.cluster.nginx import UNREADABLE
from tracer.cluster.routes import Asked, Backend

ALWAYS_NEVER = {"always": True, "never": False}


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary backend and when it gets a request; `weight` of `total` by chance."""

    backend: Backend
    weight: int
    total: int
    header: str | None
    value: str | None
    pattern: str | None
    cookie: str | None


def policy(backend: Backend, notes: Mapping[str, str]) -> Canary:
    """The canary that the annotations of an Ingress describe."""
    return Canary(
        backend=backend,
        weight=_number(notes.get("canary-weight")) or 0,
        total=_number(notes.get("canary-weight-total")) or 100,
        header=notes.get("canary-by-header"),
        value=notes.get("canary-by-header-value"),
        pattern=notes.get("canary-by-header-pattern"),
        cookie=notes.get("canary-by-cookie"),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else None


def choose(main: Backend | None, canary: Canary | None, asked: Asked) -> tuple[Backend | None, tuple[Backend, ...]]:
    """The backend for a request, and the other that it may have got instead."""
    if main is None or canary is None:
        return main, ()
    decided = _decided(canary, asked)
    if decided is not None:
        return (canary.backend if decided else main), ()
    first, second = replace(main, weight=canary.total - canary.weight), replace(canary.backend, weight=canary.weight)
    return (first, (second,)) if canary.weight * 2 <= canary.total else (second, (first,))


def _decided(canary: Canary, asked: Asked) -> bool | None:
    """Whether the canary gets the request; None where chance decides, or headers that are not known."""
    by_header = _by_header(canary, asked.headers.get(canary.header.lower())) if canary.header else None
    if by_header is not None:
        return by_header
    by_cookie = ALWAYS_NEVER.get(_cookie(asked.headers.get("cookie", ""), canary.cookie)) if canary.cookie else None
    if by_cookie is not None:
        return by_cookie
    if (canary.header or canary.cookie) and not asked.headers:
        return None
    return None if 0 < canary.weight < canary.total else canary.weight > 0


def _by_header(canary: Canary, sent: str | None) -> bool | None:
    if sent is None:
        return None
    if canary.value:
        return True if sent == canary.value else None
    if canary.pattern:
        try:
            return True if re.search(canary.pattern, sent) else None
        except UNREADABLE:
            return False
    return ALWAYS_NEVER.get(sent)


def _cookie(header: str, name: str) -> str:
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return next((value for key, _, value in pairs if key == name), "")
