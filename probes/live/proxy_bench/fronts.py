"""What a bench may ask for: Services' addresses before translation, and for each of them those after it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.live.proxy_bench.pairing import Pairs
from probes.schema import Array


@dataclass(frozen=True, slots=True)
class Front:
    """A Service port: the address that clients ask for, and its endpoints. All IPv4."""

    address: str
    port: int
    endpoints: tuple[tuple[str, int], ...]


class Fronts:
    """Services in the order of the rules that find them: a Service's place in it is its position, from 0."""

    def __init__(self, fronts: Sequence[Front]) -> None:
        self.fronts = fronts
        asked = np.array([_key(front.address, front.port) for front in fronts], "u8")
        self._order = np.argsort(asked)
        self._asked = asked[self._order]
        allowed = [(number << 48) | _key(*endpoint) for number, front in enumerate(fronts) for endpoint in front.endpoints]
        self._allowed: Array = np.sort(np.array(allowed, "u8"))

    def __len__(self) -> int:
        return len(self.fronts)

    def target(self, position: int) -> tuple[str, int]:
        """What to connect to."""
        return self.fronts[position].address, self.fronts[position].port

    def positions(self, pairs: Pairs) -> Array:
        """Each packet's Service (i8); -1 where it was for none, or was not sent to one of that Service's endpoints."""
        asked = pairs.asked.astype("u8") << np.uint64(16) | pairs.asked_port
        at = np.minimum(np.searchsorted(self._asked, asked), len(self._asked) - 1)
        position = np.where(self._asked[at] == asked, self._order[at], -1).astype("i8")
        given = position.astype("u8") << np.uint64(48) | pairs.given.astype("u8") << np.uint64(16) | pairs.given_port
        at = np.minimum(np.searchsorted(self._allowed, given), len(self._allowed) - 1)
        return np.where(self._allowed[at] == given, position, -1)


def _key(address: str, port: int) -> int:
    return int(ipaddress.IPv4Address(address)) << 16 | port
