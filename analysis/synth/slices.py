"""One slice of time: its conversations, messages and packets, drawn and timed as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.synth import messages, timeline
from analysis.synth.cluster import MadeCluster
from analysis.synth.options import Options
from analysis.synth.ports import Ports
from analysis.synth.proxied import FORWARD_NS, RETURN_NS, exchanges_of, kept_connections, remote, upstream_calls
from analysis.synth.traffic import FILLERS, ORIGINAL, PROXIED, Calls, possible
from analysis.synth.ways import NUMBER, WayTable
from probes.schema import Array, Table, size, take

LONGEST_BODY = 46_000  # bytes
PROXIED_SHARE = 0.4  # of calls, where there are proxies
LARGE_SHARE = 0.1  # of answers, with GSO
AGAIN_NS = 300_000_000  # until a client has a socket with the same address again
EXCHANGES_OF_A_CONVERSATION = np.array([1, 1, 2, 3])
IDENTIFIERS_FROM = 1 << 60


@dataclass(slots=True)
class Slice:
    """`conversations` and `exchanges` (each with when it was asked and answered), PACKET rows, and the messages that they carry.

    `exchanges["parent"]` is the row of the exchange that another was made for, -1 where it is a client's; `ended_ns[c]` is when the
    ledger's entry of conversation c ends, -1 where it stays.
    """

    conversations: Table
    exchanges: Table
    packets: Array
    heads: Array
    head_bytes: Array
    body_at: Array
    ended_ns: Array


@dataclass(frozen=True, slots=True)
class Drawing:
    """What all slices of one bundle share."""

    options: Options
    made: MadeCluster
    ways: WayTable
    ports: Ports
    text: Array

    def slice(self, generator: np.random.Generator, first_ns: int, count: int) -> tuple[Slice, int]:
        """`(a slice with `count` requests from first_ns on, when the next one begins)`; fewer where too few tuples can be used again."""
        return _SliceDraw(self, generator).drawn(first_ns, count)


class _SliceDraw:
    def __init__(self, drawing: Drawing, generator: np.random.Generator) -> None:
        self.all, self.generator, self.options = drawing, generator, drawing.options
        self.heads, self.head_bytes, self.body_at = list[Array](), list[Array](), list[Array]()
        self.conversations, self.exchanges, self.packets = list[Table](), list[Table](), list[Array]()
        self.upstream: tuple[Table, Array] = {}, np.empty(0, "i8")  # packets of what proxies ask for, and how long theirs travel

    def drawn(self, first_ns: int, count: int) -> tuple[Slice, int]:
        later = round(count * self.options.reuse) if count > 1 else 0
        calls, sizes = self._calls(count - later)
        spread = self.generator.exponential(1e9 / self.options.rate_hz, int(sizes.sum())).astype("i8")
        arrival = first_ns + np.cumsum(spread)
        starts = arrival[np.cumsum(sizes) - sizes]
        conversations = calls.finished(starts)
        exchanges = self._exchanges(conversations, np.repeat(np.arange(len(sizes)), sizes))
        upstream = self._upstream_of(conversations, exchanges)
        ends = self._add(conversations, exchanges)
        ended_ns = np.full(len(sizes), -1)
        if later:
            before = np.flatnonzero(np.isin(conversations["way"], REUSABLE))[:later]
            again = self._again(calls, before)
            starts = ends[before] + AGAIN_NS + self.generator.integers(0, AGAIN_NS, len(before))
            ended_ns = np.concatenate([np.full(len(sizes), -1), np.full(len(before), -1)])
            ended_ns[before] = starts - 1_000_000
            conversations = again.finished(starts)
            self._add(conversations, self._exchanges(conversations, np.arange(len(before))))
        self._add_upstream(upstream)
        return self._whole(ended_ns), int(arrival[-1])

    def _calls(self, count: int) -> tuple[Calls, Array]:
        """Conversations that carry `count` exchanges together, and how many each."""
        sizes = EXCHANGES_OF_A_CONVERSATION[self.generator.integers(0, len(EXCHANGES_OF_A_CONVERSATION), count)]
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
        sizes[-1] -= int(sizes.sum()) - count
        calls = Calls(self.all.made, self.options, self.generator, self.all.ports, len(sizes))
        proxied = (self.generator.random(len(sizes)) < PROXIED_SHARE) & (self.options.proxies != "none")
        weights = possible(self.options)
        kinds = self.generator.choice(len(weights), len(sizes), p=np.array(list(weights.values())) / sum(weights.values()))
        for number, kind in enumerate(weights):
            if len(rows := np.flatnonzero((kinds == number) & ~proxied)):
                FILLERS[kind](calls, rows, None)
        kinds = self.generator.integers(0, len(PROXIED), len(sizes))
        for number, kind in enumerate(PROXIED):
            if len(rows := np.flatnonzero((kinds == number) & proxied)):
                local = self.generator.integers(0, 2, len(rows)) if kind == "LoadBalancer" else int(kind == "NodePort, Local")
                FILLERS[kind](calls, rows, self.all.made.shop + local + np.zeros(len(rows), "i8"))
        return calls, sizes

    def _again(self, calls: Calls, before: Array) -> Calls:
        """The clients of conversations `before` ask again, from the same address and port; another pod may answer."""
        made = self.all.made
        again = Calls(made, self.options, self.generator, self.all.ports, len(before))
        rows = np.arange(len(before))
        again.client_kind, again.client, again.mss = (getattr(calls, name)[before] for name in ("client_kind", "client", "mss"))
        again.ends[:, ORIGINAL], again.places[:] = calls.ends[before, ORIGINAL], calls.places[before]
        pod = again.pods_of(calls.service[before])
        again.served_by(rows, calls.service[before], pod, "")
        again.via = calls.via[before]
        node = again.places[:, 0]
        local = made.pods.node[pod] == node
        outside = np.isin(calls.way[before], MASQUERADED)
        again.goes(rows[outside], local[outside], "masqueraded")
        again.goes(rows[~outside], local[~outside], "service")
        again.masquerade_on(rows[outside], node[outside], local=local[outside])
        return again

    def _exchanges(self, conversations: Table, conversation: Array) -> Table:
        """An exchange for each entry of `conversation`, with its messages."""
        count, generator, options = len(conversation), self.generator, self.options
        first = np.searchsorted(conversation, conversation)
        service = conversations["service"][conversation]
        proxied = service >= self.all.made.shop
        shop = generator.integers(0, self.all.made.shop, count)
        service = np.where(proxied | (service < 0), shop, service)
        status = np.array([200, 404, 503])[generator.choice(3, count, p=[0.94, 0.04, 0.02])]
        item = generator.integers(0, 10**messages.ITEM_DIGITS, count)
        identifier = generator.integers(IDENTIFIERS_FROM, 1 << 63, count, "u8")
        body_bytes = np.clip(generator.lognormal(6, 1, count), 40, 4000).astype("i8")
        if options.gso:
            body_bytes = np.where(generator.random(count) < LARGE_SHARE, generator.integers(20_000, LONGEST_BODY, count), body_bytes)
        if options.l4_only:
            asked, asked_bytes = messages.opaque(count)
            answered, answered_bytes = messages.opaque(count)
            bodies = generator.integers(60, 200, count)
        else:
            asked, asked_bytes = messages.requests(item, service, identifier if options.proxies == "ids" else None)
            answered, answered_bytes = messages.responses(status, body_bytes)
            bodies = np.zeros(count, "i8")
        return {
            "conversation": conversation, "number": np.arange(count) - first,
            "request": self._message(asked, asked_bytes), "response": self._message(answered, answered_bytes),
            "request_bytes": asked_bytes + bodies, "response_bytes": answered_bytes + body_bytes,
            "gap_ns": np.where(np.arange(count) == first, 0, generator.integers(500_000, 5_000_000, count)) + timeline.REACT_NS,
            "think_ns": generator.integers(200_000, 3_000_000, count), "anchor_ns": np.full(count, -1), "item": item,
            "identifier": identifier, "service": service, "status": status, "proxied": proxied,
        }  # fmt: skip

    def _message(self, heads: Array, lengths: Array) -> Array:
        at = sum(len(each) for each in self.head_bytes)
        self.heads.append(heads)
        self.head_bytes.append(lengths)
        self.body_at.append(self.generator.integers(0, len(self.all.text) - LONGEST_BODY, len(lengths)))
        return np.arange(at, at + len(lengths))

    def _upstream_of(self, conversations: Table, exchanges: Table) -> Table:
        """What proxies ask for, with how long it takes; the answers to their clients wait for that."""
        rows = np.flatnonzero(exchanges["proxied"])
        count, made, generator = len(rows), self.all.made, self.generator
        proxy = conversations["server"][exchanges["conversation"][rows]]
        services, service = made.services, exchanges["service"][rows]
        pod = services.first_pod[service] + generator.integers(0, services.pods[service])
        request, request_bytes = exchanges["request"][rows], exchanges["request_bytes"][rows]
        if not self.options.l4_only:
            identifier = exchanges["identifier"][rows] if self.options.proxies == "ids" else None
            heads, request_bytes = messages.requests(exchanges["item"][rows], service, identifier, forwarded=True)
            request = self._message(heads, request_bytes)
        asked = exchanges_of(exchanges, rows, request, request_bytes)
        way = np.where(remote(made, proxy, pod), NUMBER["direct-remote"], NUMBER["direct-local"])
        travel = self.all.ways.travel_ns[way]
        packet_rows = timeline.exchange_rows(asked, travel, generator, self.options.loss, gso=self.options.gso)
        took = timeline.durations(packet_rows, travel, count)
        opening = timeline.handshake_ns(travel)
        exchanges["think_ns"][rows] = FORWARD_NS + opening + took + RETURN_NS
        self.upstream = packet_rows, travel
        return asked | {"parent": rows, "proxy": proxy, "pod": pod, "took_ns": took, "opening_ns": opening}

    def _add(self, conversations: Table, exchanges: Table) -> Array:
        """Time these; returns when the last packet of each conversation was sent."""
        travel = timeline.travels(conversations, self.all.ways.travel_ns)
        rows = timeline.exchange_rows(exchanges, travel[exchanges["conversation"]], self.generator, self.options.loss, gso=self.options.gso)
        opening = timeline.opening_rows(conversations, travel, self.generator, self.options.loss)
        parent = np.full(size(exchanges), -1)
        return self._timed(conversations, exchanges | {"parent": parent}, [opening, rows, timeline.closing_rows(travel)], travel)

    def _add_upstream(self, asked: Table) -> None:
        rows, travel = self.upstream
        if not size(asked):
            return
        arrived = self.exchanges[0]["arrived_ns"][asked["parent"]]
        starts = arrived + FORWARD_NS
        sent = starts + asked["opening_ns"]
        connection, number = kept_connections(asked["proxy"], asked["pod"], starts, sent + asked["took_ns"] + 2 * travel.sum(axis=1))
        first = np.flatnonzero(number == 0)
        first = first[np.argsort(connection[first])]
        calls = Calls(self.all.made, self.options, self.generator, self.all.ports, len(first))
        upstream_calls(calls, asked["proxy"][first], asked["pod"][first])
        conversations = calls.finished(starts[first])
        conversations["jitter"] = np.ones(len(first))
        of = rows["exchange"]
        asks = (rows["phase"] == 0) & ~rows["again"]
        rows |= {"conversation": connection[of], "number": number[of], "anchor_ns": np.where(asks, sent[of], -1)}
        whole = timeline.travels(conversations, self.all.ways.travel_ns)
        opening = timeline.opening_rows(conversations, whole, self.generator, 0.0)
        exchanges = asked | {"conversation": connection, "number": number}
        self._timed(conversations, exchanges, [opening, rows, timeline.closing_rows(whole)], whole)

    def _timed(self, conversations: Table, exchanges: Table, parts: list[Table], travel: Array) -> Array:
        made, rows = timeline.packets(conversations, parts, self.all.ways.count, self.generator)
        times, of, count = made["time_ns"], rows["exchange"], size(exchanges)
        asked, arrived, answered = np.full(count, np.iinfo("i8").max), np.zeros(count, "i8"), np.zeros(count, "i8")
        asks, answers = (of >= 0) & (rows["phase"] == 0), (of >= 0) & (rows["phase"] == 2)
        travel = travel[rows["conversation"]]
        np.minimum.at(asked, of[asks], times[asks])
        np.maximum.at(arrived, of[asks], (times + travel[:, 0])[asks])
        np.maximum.at(answered, of[answers], (times + travel[:, 1])[answers])
        before = sum(size(each) for each in self.conversations)
        made["conversation"] += before
        self.packets.append(made)
        self.conversations.append(conversations)
        kept = {name: exchanges[name] for name in ("number", "parent", "item", "identifier", "service", "status")}
        self.exchanges.append(
            kept | {"conversation": exchanges["conversation"] + before, "asked_ns": asked, "arrived_ns": arrived, "answered_ns": answered}
        )
        ends = np.zeros(size(conversations), "i8")
        np.maximum.at(ends, rows["conversation"], times)
        return ends

    def _whole(self, ended_ns: Array) -> Slice:
        conversations, exchanges = (
            {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
            for tables in (self.conversations, self.exchanges)
        )
        packets = np.concatenate(self.packets)
        packets = timeline.resegmented(packets) if self.options.gso else packets
        heads, head_bytes, body_at = (np.concatenate(each) for each in (self.heads, self.head_bytes, self.body_at))
        ended_ns = np.concatenate([ended_ns, np.full(size(conversations) - len(ended_ns), -1)])
        return Slice(conversations, exchanges, packets, heads, head_bytes, body_at, ended_ns)


MASQUERADED = [NUMBER["masqueraded-remote"], NUMBER["masqueraded-local"]]
REUSABLE = [*MASQUERADED, NUMBER["service-remote"], NUMBER["service-local"]]


def join(one: Slice, other: Slice) -> Slice:
    """Both slices, one behind the other; exchanges and the ledger's ends are the second's alone."""
    packets = other.packets.copy()
    packets["conversation"] += size(one.conversations)
    packets["message"] += np.where(packets["message"] >= 0, len(one.head_bytes), 0).astype("i4")
    conversations = {name: np.concatenate([one.conversations[name], other.conversations[name]]) for name in other.conversations}
    heads, head_bytes, body_at = (np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("heads", "head_bytes", "body_at"))
    return Slice(conversations, other.exchanges, np.concatenate([one.packets, packets]), heads, head_bytes, body_at, other.ended_ns)


def part(whole: Slice, packets: Array) -> Slice:
    """Only these rows of the packets, with what they need; exchanges and the ledger are left out."""
    chosen = whole.packets[packets].copy()
    conversations, chosen["conversation"] = np.unique(chosen["conversation"], return_inverse=True)
    carried = chosen["message"] >= 0
    used, message = np.unique(chosen["message"][carried], return_inverse=True)
    chosen["message"][carried] = message
    return Slice(
        take(whole.conversations, conversations), {}, chosen, whole.heads[used], whole.head_bytes[used], whole.body_at[used],
        np.empty(0, "i8"),
    )  # fmt: skip
