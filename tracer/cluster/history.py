"""Who holds a key (an address, a port) when: claims in, a sorted list of changes out. Lookups are one bisect."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

NEVER_NS = -(1 << 62)  # before everything
FOREVER_NS = 1 << 62  # after everything


@dataclass(frozen=True, slots=True)
class Claim(Generic[T]):
    """`value` holds the key at some time in [`start_ns`, `end_ns`), and for certain in [`sure_start_ns`, `sure_end_ns`)."""

    value: T
    start_ns: int
    end_ns: int
    sure_start_ns: int
    sure_end_ns: int

    @classmethod
    def certain(cls, value: T, start_ns: int, end_ns: int) -> Claim[T]:
        """A claim whose limits are known."""
        return cls(value, start_ns, end_ns, start_ns, end_ns)


class History(Generic[T]):
    """The holder of one key over time.

    Of several claims a certain one beats those that may have ended, then the later-started wins; where no claim is certain and one may
    have begun, nobody can tell. With `exclusive`, two certain claims at one time mean the same.
    """

    __slots__ = ("_starts", "_values")

    def __init__(self, claims: Iterable[Claim[T]], *, exclusive: bool = False) -> None:
        claims = [claim for claim in claims if claim.start_ns < claim.end_ns]
        moments = sorted({moment for c in claims for moment in (c.start_ns, c.end_ns, c.sure_start_ns, c.sure_end_ns)})
        opening = sorted(claims, key=lambda claim: claim.start_ns, reverse=True)
        open_now: list[Claim[T]] = []
        self._starts: list[int] = []
        self._values: list[T | None] = []
        for moment in moments:
            open_now = [claim for claim in open_now if claim.end_ns > moment]
            while opening and opening[-1].start_ns <= moment:
                open_now.append(opening.pop())
            holder = _holder(open_now, moment, exclusive=exclusive)
            if not self._values or holder is not self._values[-1]:
                self._starts.append(moment)
                self._values.append(holder)

    def at(self, time_ns: int) -> T | None:
        """The holder at that time, None where there was none."""
        place = bisect.bisect_right(self._starts, time_ns)
        return self._values[place - 1] if place else None

    def changes(self) -> list[tuple[int, T | None]]:
        """`(from_ns, holder)`, in order of time."""
        return list(zip(self._starts, self._values, strict=True))


def _holder(claims: list[Claim[T]], moment: int, *, exclusive: bool) -> T | None:
    sure = [claim for claim in claims if claim.sure_start_ns <= moment < claim.sure_end_ns]
    if exclusive and len(sure) > 1:
        return None
    if sure:
        return max(sure, key=lambda claim: (claim.sure_start_ns, claim.start_ns)).value
    if any(claim.sure_start_ns > moment for claim in claims):
        return None
    return max(claims, key=lambda claim: (claim.sure_start_ns, claim.start_ns)).value if claims else None


class Histories(Generic[K, T]):
    """One `History` per key, made from the claims on it."""

    __slots__ = ("_by_key",)

    def __init__(self, claims: Iterable[tuple[K, Claim[T]]], *, exclusive: bool = False) -> None:
        collected: dict[K, list[Claim[T]]] = {}
        for key, claim in claims:
            collected.setdefault(key, []).append(claim)
        self._by_key = {key: History(found, exclusive=exclusive) for key, found in collected.items()}

    def at(self, key: K, time_ns: int) -> T | None:
        """The holder of `key` at that time."""
        history = self._by_key.get(key)
        return None if history is None else history.at(time_ns)

    def moments(self) -> set[int]:
        """When any of them changes."""
        return {moment for history in self._by_key.values() for moment, _ in history.changes()}

    def __contains__(self, key: object) -> bool:
        """Whether anybody ever held `key`."""
        return key in self._by_key
