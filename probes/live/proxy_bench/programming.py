"""How long rules take to load: until the command returns, and until a first packet is really translated.

While the command runs, a SYN to one Service goes out every millisecond, each from a socket of its own; the packets probe tells which one
came out translated.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from probes.live.namespaces import inside
from probes.live.proxy_bench.instrument import Instrument
from probes.live.proxy_bench.pairing import Pairs, pairs
from probes.live.proxy_bench.road import Road

KNOCK_S = 0.001
PATIENCE_S = 5.0  # after the command has returned
_LOOK_EVERY = 64  # knocks


@dataclass(frozen=True, slots=True)
class Programmed:
    """One loading of rules. `translated_ns` is None where no packet was translated in time; times are from the command's start."""

    mode: str
    services: int
    what: str  # "load": all rules, into a node that has none; "change": one Service gets other endpoints
    returned_ns: int
    translated_ns: int | None


class _Knocking(threading.Thread):
    """SYNs to `target`, until one of them comes out such that `translated` holds, or it is told to give up."""

    def __init__(self, road: Road, instrument: Instrument, target: tuple[str, int], translated: Callable[[Pairs], bool]) -> None:
        super().__init__(daemon=True)
        self._road, self._instrument, self._target, self._translated = road, instrument, target, translated
        self.give_up = threading.Event()
        self.found_ns: int | None = None

    def run(self) -> None:
        with inside(self._road.netns("client")):
            number = 0
            while not self.give_up.is_set() and self.found_ns is None:
                with socket.socket() as knock:
                    knock.setblocking(False)
                    knock.connect_ex(self._target)
                time.sleep(KNOCK_S)
                number += 1
                if number % _LOOK_EVERY == 0:
                    self._look()
        self._look()

    def _look(self) -> None:
        seen = pairs(self._instrument.take(), self._instrument.client_ifindex, self._instrument.server_ifindex)
        for row in range(len(seen.time_ns)):
            if self._translated(seen[slice(row, row + 1)]):
                self.found_ns = int(seen.time_ns[row])
                return


def timed(
    road: Road, instrument: Instrument, target: tuple[str, int], translated: Callable[[Pairs], bool], load: Callable[[], None]
) -> tuple[int, int | None]:
    """Run `load` while knocking at `target`: nanoseconds until it returned, and until the first packet that `translated` accepts."""
    instrument.take()
    knocking = _Knocking(road, instrument, target, translated)
    knocking.start()
    begun_ns = time.monotonic_ns()
    try:
        load()
        returned_ns = time.monotonic_ns() - begun_ns
        knocking.join(PATIENCE_S)
    finally:
        knocking.give_up.set()
        knocking.join()
    return returned_ns, None if knocking.found_ns is None else max(0, knocking.found_ns - begun_ns)
