"""A made bundle as files, written slice by slice so that memory does not grow with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from analysis.synth import messages
from analysis.synth.clocks import Clocks
from analysis.synth.cluster import MadeCluster, made_cluster
from analysis.synth.frames import AT_SENDER, EVERYWHERE, MOST_HEADER_BYTES, RECORD_BYTES, SYN, checksum_payloads, file_header, write_records
from analysis.synth.ledger import Ledger
from analysis.synth.objects import links_text, objects
from analysis.synth.options import Amount, Options
from analysis.synth.ports import Ports
from analysis.synth.slices import LONGEST_BODY, Drawing, Slice, join, part
from analysis.synth.timeline import SYN_FACTOR
from analysis.synth.truth import Truth
from analysis.synth.ways import WayTable, way_table
from probes.schema import Array

EPOCH_NS = 1_795_410_000_000_000_000  # 2026-11-23, an hour after the cluster's objects were created
SLICE_REQUESTS, FIRST_REQUESTS = 4000, 97
BODY_TEXT_BYTES = LONGEST_BODY + (1 << 16)


@dataclass(slots=True)
class Written:
    """How much was written so far: records of the captures, requests, bytes of the captures."""

    packets: int = 0
    requests: int = 0
    capture_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Sighted:
    """Records to be: which packet was seen at which place of its way, on which node, when (true time)."""

    packet: Array
    sighting: Array
    node: Array
    time_ns: Array


def synthesise(options: Options, amount: Amount, folder: Path, progress: Callable[[Written], None] = lambda _written: None) -> Written:
    """Write a bundle and its truth.jsonl into `folder`, which is created, or empty.

    ValueError for options that make no cluster, FileExistsError where the folder is not empty.
    """
    options.check()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(folder)
    made = made_cluster(options)
    (folder / "cluster.json").write_text(json.dumps(objects(made)) + "\n")
    (folder / "bundle.toml").write_text(f'# made by hopline synth\n[synth]\nseed = {options.seed}\nmode = "{options.mode}"\n')
    for node, name in enumerate(made.nodes):
        (folder / f"{name}.links.txt").write_text(links_text(made, node))
    with ExitStack() as files:
        return _Writer(options, made, folder, files).run(amount, progress)


class _Writer:
    def __init__(self, options: Options, made: MadeCluster, folder: Path, files: ExitStack) -> None:
        self.options, self.made, self.ways = options, made, way_table(options.mode)
        generator = np.random.default_rng(options.seed)
        self.clocks = Clocks(generator, len(made.nodes), options.skew_ms, EPOCH_NS)
        self.text = messages.body_text(generator, BODY_TEXT_BYTES)
        self.drawing = Drawing(options, made, self.ways, Ports(), self.text)
        self.ledger, self.truth = Ledger(self.clocks), Truth(made, options)
        self.captures: list[IO[bytes]] = [files.enter_context((folder / f"{name}.pcap").open("wb")) for name in made.nodes]
        self.ledgers = [files.enter_context((folder / f"{name}.conntrack-events.txt").open("w")) for name in made.nodes]
        self.truths = files.enter_context((folder / "truth.jsonl").open("w"))
        for capture in self.captures:
            capture.write(file_header(options.snaplen))
        self.written = Written()
        self._waiting: Slice | None = None  # what is seen after the slice it belongs to
        self._waiting_records, self._written_until_ns = 0, 0
        self._late: list[tuple[int, int, str]] = []

    def run(self, amount: Amount, progress: Callable[[Written], None]) -> Written:
        begins_ns, number = EPOCH_NS, 0
        while (count := self._next(amount, begins_ns)) > 0:
            drawn, ends_ns = self.drawing.slice(np.random.default_rng([self.options.seed, number]), begins_ns, count)
            self.written.requests += int((drawn.exchanges["parent"] < 0).sum())
            self.truths.writelines(self.truth.lines(drawn))
            self._write_ledgers([*self._late, *self.ledger.lines(drawn.conversations, drawn.ended_ns)], ends_ns)
            self._write_packets(drawn, ends_ns)
            progress(self.written)
            begins_ns, number = ends_ns, number + 1
        self._write_ledgers(self._late, None)
        if self._waiting is not None:
            self._write_packets(None, None)
        progress(self.written)
        return self.written

    def _next(self, amount: Amount, begins_ns: int) -> int:
        """Requests of the next slice."""
        if amount.packets is not None:
            made = self.written.packets + (0 if self._waiting is None else self._waiting_records)
            if not made:
                return max(min(FIRST_REQUESTS, amount.packets // 40), 1)
            left = (amount.packets - made) * self.written.requests / made
            return min(SLICE_REQUESTS, int(np.ceil(left)))
        if amount.requests is not None:
            return min(SLICE_REQUESTS, amount.requests - self.written.requests)
        left_s = (amount.duration_s or 0) - (begins_ns - EPOCH_NS) / 1e9
        return min(SLICE_REQUESTS, int(np.ceil(left_s * self.options.rate_hz)))

    def _write_ledgers(self, lines: list[tuple[int, int, str]], until_ns: int | None) -> None:
        self._late = [line for line in lines if until_ns is not None and line[1] >= self.clocks.shown_ns(line[0], until_ns)]
        now = lines if not self._late else [line for line in lines if line[1] < self.clocks.shown_ns(line[0], until_ns or 0)]
        for node, _, line in sorted(now, key=lambda line: line[1]):
            self.ledgers[node].write(line)

    def _write_packets(self, drawn: Slice | None, until_ns: int | None) -> None:
        """Write what is seen before `until_ns` (None: everything) of `drawn` and of what waits, and keep the rest."""
        if drawn is not None:
            checksum_payloads(drawn.packets, drawn.heads, drawn.head_bytes, drawn.body_at, self.text)
        whole = drawn if self._waiting is None else self._waiting if drawn is None else join(self._waiting, drawn)
        assert whole is not None
        seen = _sighted(whole, self.ways)
        if self._waiting is not None:  # of a packet that waits, some places have been written
            already = (seen.packet < len(self._waiting.packets)) & (seen.time_ns < self._written_until_ns)
            seen = _where(seen, ~already)
        if until_ns is None:
            self._waiting = None
        else:
            later = seen.time_ns >= until_ns
            self._waiting = part(whole, np.unique(seen.packet[later]))
            self._waiting_records, self._written_until_ns = int(later.sum()), until_ns
            seen = _where(seen, ~later)
        for node in range(len(self.made.nodes)):
            here = np.flatnonzero(seen.node == node)
            self._write(whole, _where(seen, here[np.argsort(seen.time_ns[here], kind="stable")]), node)

    def _write(self, whole: Slice, seen: _Sighted, node: int) -> None:
        packets, options = whole.packets, self.options
        payload = np.minimum(packets["length"][seen.packet].astype("i8"), options.snaplen)
        out = np.empty(int(payload.sum()) + len(payload) * MOST_HEADER_BYTES + RECORD_BYTES + MOST_HEADER_BYTES, "u1")
        filled = write_records(
            seen.packet, seen.sighting, self.clocks.shown(node, seen.time_ns), packets, self.ways.sightings, whole.conversations["ends"],
            whole.conversations["places"], self.made.node_address, whole.heads, whole.head_bytes, whole.body_at, self.text, options.snaplen,
            out,
        )  # fmt: skip
        self.captures[node].write(out[:filled].data)
        self.written.packets += len(seen.packet)
        self.written.capture_bytes += filled


def _sighted(drawn: Slice, ways: WayTable) -> _Sighted:
    packets, conversations = drawn.packets, drawn.conversations
    which, reply = packets["conversation"], packets["reply"]
    way = conversations["way"][which]
    places = np.minimum(ways.count[way, reply], packets["first_places"])
    packet = np.repeat(np.arange(len(packets)), places)
    sighting = np.arange(len(packet)) - np.repeat(np.cumsum(places) - places, places) + ways.first[way, reply][packet]
    where = packets["where"][packet]
    shown = (where == EVERYWHERE) | ((where == AT_SENDER) == (ways.sightings["at_sender"][sighting] > 0))
    packet, sighting = packet[shown], sighting[shown]
    factor = conversations["jitter"][which] * np.where(packets["flags"] & SYN > 0, SYN_FACTOR, 1)
    time_ns = packets["time_ns"][packet] + (ways.sightings["delay_ns"][sighting] * factor[packet]).astype("i8")
    node = conversations["places"][which[packet], ways.sightings["role"][sighting]]
    return _Sighted(packet, sighting, node, time_ns)


def _where(seen: _Sighted, rows: Array) -> _Sighted:
    return _Sighted(seen.packet[rows], seen.sighting[rows], seen.node[rows], seen.time_ns[rows])
