"""The ledger as the kernel tells it: a pcap or pcapng file of netlink messages, from `hopline record` or from an nlmon device.

What the recorder has to say about the ledger itself is comments between the packets, `remark`s: a person reads them in Wireshark.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from probes.capture.columns import Columns
from probes.capture.gather import Gatherer
from probes.capture.reader import walk
from probes.capture.records import Interface
from probes.capture.stream import ByteWindow
from probes.conntrack.messages import ENTRY, LINK_TYPE, SMALLEST_BYTES, read_messages
from probes.schema import LEDGER, Array, Problem, Table

_REMARK = "hopline ledger: "
_MOST_ZONES = 5  # are named


def remark(what: str, remedy: str) -> str:
    """The text of a comment that says what is wrong with the ledger from here on; its reader gets a Problem."""
    return f"{_REMARK}{what} ({remedy})"


class _Messages(Gatherer):
    """Reads a file as every reader does, and decodes netlink instead of packets."""

    def __init__(self, window: ByteWindow) -> None:
        super().__init__(window)
        self.ledger = Columns(LEDGER)
        self.zones: Array = np.zeros(1 << 16, bool)
        self._bad, self._first_bad = 0, 0

    def judge(self, interface: Interface) -> None:
        """Say so where an interface gives packets."""
        if interface.link_type != LINK_TYPE:
            name = interface.name or len(self.interfaces)
            self.report(f"interface {name} has no netlink messages", "they are left out; a capture's name must not have `.conntrack` in it")

    def comment(self, frame: int | None, text: str) -> None:
        """Turn the recorder's remarks into problems; other comments are nobody's business here."""
        if text.startswith(_REMARK) and text.endswith(")"):
            what, _, remedy = text[len(_REMARK) : -1].rpartition(" (")
            self.report(what, remedy, frame)

    def decode(self, count: int) -> None:
        """Turn the messages in the first `count` of `frames` into rows of the ledger."""
        frames = self.frames[:count]
        rows = np.zeros(int(frames["captured"].sum()) // SMALLEST_BYTES + 1, ENTRY)
        found, bad, first_bad = read_messages(self.window.data, frames, self.clocks["link_type"], rows, self.zones)
        entries = rows[:found].view(LEDGER.dtype)
        self.ledger.append({column.name: entries[column.name] for column in LEDGER.columns}, self.window.share)
        if bad and not self._bad:
            self._first_bad = self.statistics.frames + 1 + first_bad
        self._bad += bad
        self.statistics.frames += count

    def problems(self) -> list[Problem]:
        """What could not be read, or must be known about what was."""
        if self._bad:
            messages = "1 message is" if self._bad == 1 else f"{self._bad} messages are"
            self.report(
                f"{messages} damaged or cut; the first is in frame {self._first_bad}", "the other messages were used; capture without -s"
            )
        if unwritten := sum(self.drops.values()):
            self.report(
                f"{unwritten} datagrams of conntrack could not be written", "joins there rest on packets; give the recorder more disk"
            )
        named = np.flatnonzero(self.zones).tolist()
        if named:
            zones = ", ".join(str(zone) for zone in named[:_MOST_ZONES]) + (", …" if len(named) > _MOST_ZONES else "")
            what = f"the ledger has entries of conntrack zones ({zones}): one tuple may mean several connections at once"
            self.report(what, "zones are not told apart", severity="note")
        return self.told()


def read_netlink(stream: BinaryIO, file: str) -> tuple[Table, list[Problem]]:
    """LEDGER rows of the ctnetlink messages in a capture (plain or compressed, not seeked), in file order, and Problems.

    Never raises on content. An entry's time is the kernel's own where the message has it (net.netfilter.nf_conntrack_timestamp=1: of every
    event since Linux 6.14, before that of the end alone), else when it was captured.
    """
    messages = _Messages(ByteWindow(stream, file))
    for count in walk(messages):
        messages.decode(count)
    return LEDGER.check(messages.ledger.table(messages.ledger.size)), messages.problems()
