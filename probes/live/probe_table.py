"""The probes that a recording can have, by name, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from probes.live.bpf import BpfError
from probes.live.confirm import Confirmed
from probes.live.drops import Drops
from probes.live.ledger import Ledger
from probes.live.natpath import NatPath
from probes.live.packets import Packets
from probes.live.segments import Segments
from probes.live.sockets import SocketProbe, ThreadProbe

if TYPE_CHECKING:
    from probes.live.recorder import Recorder


class Probe(Protocol):
    """What the loop asks of a probe."""

    def drain(self) -> None:
        """Write what is there; never wait for more."""

    def counters(self) -> dict[str, int]:
        """What was seen, written and dropped since the beginning."""

    def close(self) -> None:
        """See nothing more; write what was seen."""


def packets_of(recorder: Recorder, netns: Path | None) -> Packets:
    """The packets of one namespace (None: the node's own), as many of them as are kept now."""
    asked = recorder.asked
    probe = Packets(
        recorder.segments, recorder.clock, asked.selection, netns=netns, ring_bytes=asked.buffer_bytes, tc=() if netns else asked.tc
    )  # fmt: skip
    if recorder.overhead.share != probe.share:
        probe.keep(recorder.overhead.share)
    return probe


def _ledger_of(recorder: Recorder) -> Ledger:
    asked = recorder.asked
    segments = Segments(
        asked.folder, recorder.section, recorder.budget, asked.segments, prefix=f"{asked.node}.conntrack-", say=recorder.say_gap
    )  # fmt: skip
    try:
        return Ledger(segments, recorder.clock, events=asked.ledger_events, say=recorder.say_gap)
    except (BpfError, OSError):
        segments.close()
        raise


def _drops_of(recorder: Recorder) -> Drops:
    probe = Drops(recorder.file("drops"), recorder.clock, recorder.budget)
    if probe.why_counted is not None:
        recorder.lack("drops", f"counted by reason and place alone: {probe.why_counted}")
    return probe


def _sockets_of(recorder: Recorder) -> SocketProbe:
    probe = SocketProbe(recorder.file("sockets"), recorder.clock, recorder.budget)
    for what, why in probe.unavailable.items():
        recorder.lack("sockets", f"without {what}: {why}")
    return probe


def _threads_of(recorder: Recorder) -> ThreadProbe:
    return ThreadProbe(recorder.file("threads"), recorder.clock, recorder.budget)


def _confirmed_of(recorder: Recorder) -> Confirmed:
    return Confirmed(recorder.file("conntrack"), recorder.clock, recorder.budget)


def _natpath_of(recorder: Recorder) -> NatPath:
    chosen = recorder.asked.selection
    return NatPath(recorder.file("natpath"), recorder.clock, recorder.budget, sample=chosen.share, seed=chosen.seed)


# What there is to ask for, in the order of attaching: packets last, so that what the others tell of one is there.
PROBES: dict[str, Callable[[Recorder], Probe]] = {
    "ledger": _ledger_of,
    "confirm": _confirmed_of,
    "sockets": _sockets_of,
    "threads": _threads_of,
    "drops": _drops_of,
    "natpath": _natpath_of,
    "packets": lambda recorder: packets_of(recorder, None),
}
