"""Parents of all requests: calls grouped by workload and protocol, each group solved, what one group tells used for the next."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from probes.dissect import Exchange
from probes.schema import Array
from tracer.requests.parents import comparisons as compare
from tracer.requests.parents.candidates import candidates
from tracer.requests.parents.facts import Facts
from tracer.requests.parents.group import Group, Solved, solve
from tracer.requests.parents.linkage import Comparison
from tracer.requests.parents.lookups import lookups

TOLD = 0.5  # log weight from which a comparison counts as evidence for a pair
MOST_SHARED = 0.06  # of requests that have several calls of a kind, where calls of that kind are exclusive
LEAST_ALONE, MOST_ALONE = 0.001, 0.95  # share of calls that may have nothing to do with what is being served
UNSEEN = 0.05  # least share of lookups that led to something else than it seems
KEPT = 4  # candidates of a call that are kept,
LEAST = 0.01  # if they are as probable as this
HTTP = ("http", "http2", "grpc")
_PASSED_ON = (  # what a proxy passes through: (name, of the request or the response, attribute, word)
    ("path", False, "path", "path"),
    ("host", False, "host", "host"),
    ("etag", True, "etag", "etag"),
    ("body", True, "body", "body"),
)


@dataclass(slots=True)
class Parents:
    """`candidates[i]`: (request, probability) of request i's possible parents, likeliest first; `evidence[i]` is for the first of them.

    `lookups[i]`: (DNS request, probability) of the lookup that the connection of request i came of.
    """

    candidates: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    evidence: dict[int, list[str]] = field(default_factory=dict)
    lookups: dict[int, tuple[int, float]] = field(default_factory=dict)


def parents(facts: Facts) -> Parents:
    """The possible parents of every request that something which was serving made."""
    found = Parents()
    call, lookup, likely = lookups(facts)
    first = facts.begin.copy()  # a call begins with the lookup that it came of
    sure = likely > 0.5
    found.lookups = {c: (n, p) for c, n, p in zip(call[sure].tolist(), lookup[sure].tolist(), likely[sure].tolist(), strict=True)}
    first[call[sure]] = np.minimum(first[call[sure]], facts.start[lookup[sure]])
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for row in np.flatnonzero(facts.caller >= 0).tolist():
        groups.setdefault((facts.workload[facts.caller[row]], facts.kind[row]), []).append(row)
    probable: dict[int, dict[int, float]] = {}  # by call, by parent
    for (workload, kind), rows in sorted(groups.items(), key=lambda item: (item[0][1] == "dns", item[0])):
        serving = np.flatnonzero([number >= 0 and facts.workload[number] == workload for number in facts.server.tolist()])
        if len(serving):
            _solve(facts, kind, np.array(rows), serving, first, (call, lookup, likely), probable, found)
    return found


def _solve(
    facts: Facts, kind: str, calls: Array, serving: Array, first: Array, looked_up: tuple[Array, Array, Array],
    probable: dict[int, dict[int, float]], found: Parents,
) -> None:  # fmt: skip
    call, parent = candidates(
        facts.start[calls], facts.caller[calls], facts.arrival[serving] - facts.slack[serving], facts.close[serving] + facts.slack[serving],
        facts.server[serving],
    )  # fmt: skip
    other = calls[call] != serving[parent]
    call, parent = call[other], parent[other]
    if not len(call):
        return
    mine, theirs = calls[call], serving[parent]
    shapes = _shapes(facts, calls), _shapes(facts, serving)
    compared = [*_times(facts, kind, mine, theirs, first), compare.association(*shapes, call, parent)]
    if facts.context is not None:
        compared.append(compare.busy_with(facts.context[mine], theirs))
    if kind in HTTP:
        compared += _content(facts, calls, serving, call, parent)
    answers = [[each.answers if (each := facts.exchanges[row]) else {} for row in rows.tolist()] for rows in (calls, serving)]
    if any("values" in each for each in answers[0]):
        values, words = [each.get("values") for each in answers[0]], [each.get("words") for each in answers[1]]
        compared.append(compare.shared_words(values, words, call, parent))
    led = _resolved(looked_up, probable, mine, theirs, calls, call) if kind == "dns" else np.zeros(len(call))
    failed = np.array([_failed(facts, row) for row in calls.tolist()], bool)
    whole = np.array([facts.exchanges[row] is None for row in serving.tolist()], bool)
    slot, slot_class, exclusive = _slots(call, parent, shapes, failed, whole[parent], usually=kind in HTTP)
    group = Group(
        call, parent, len(calls), len(serving), slot, slot_class, exclusive & ~failed, compared,
        np.unique(facts.connection[calls], return_inverse=True)[1], np.unique(facts.connection[serving], return_inverse=True)[1],
        facts.caller[calls], led,
        (facts.seen_at_door("answer_ns", facts.answer)[calls], facts.seen_at_door("reply_ns", facts.reply)[serving]),
        (facts.seen_at_door("received_ns", facts.received)[serving], facts.seen_at_door("start_ns", facts.start)[calls]),
        _lone(facts, calls, call, serving), kind != "dns",
    )  # fmt: skip
    solved = solve(group)
    for c, p, likely in zip(mine.tolist(), theirs.tolist(), solved.probability.tolist(), strict=True):
        if likely >= LEAST:
            probable.setdefault(c, {})[p] = likely
    _keep(mine, theirs, solved, led, found)


def _shapes(facts: Facts, rows: Array) -> list[str | None]:
    """What kind of operation each request is; of one that could not be read, where it went."""
    found = []
    for row in rows.tolist():
        exchange = facts.exchanges[row]
        host = exchange.attributes.get("host", "") if exchange else ""
        found.append(compare.shape(f"{exchange.operation} {host}") if exchange and exchange.operation else facts.target[row])
    return found


def _slots(
    call: Array, parent: Array, shapes: tuple[list[str | None], list[str | None]], failed: Array, whole: Array, *, usually: bool
) -> tuple[Array, Array, Array]:
    """`(slot of each pair, class of each slot, whether each call is exclusive)`.

    Whether a request makes one call of a kind, or one of each shape, or any number, is seen where a call can have but one parent. Few such
    calls prove nothing; `usually` is what is believed of this kind until then. A parent that is a `whole` connection (of each pair) holds
    any number of requests that could not be read.
    """
    kinds, other = (np.unique([each or "" for each in side], return_inverse=True)[1] for side in shapes)
    alone = np.bincount(call, minlength=len(failed))[call] == 1
    told = np.flatnonzero(alone & ~failed[call] & ~whole)
    by_request, by_shape = parent, parent * (int(kinds.max(initial=0)) + 1) + kinds[call]
    slot, exclusive = by_shape, False
    for each, believed in ((by_request, usually), (by_shape, usually)):
        shared = len(told) - len(np.unique(each[told]))
        if (shared + (0.2 if believed else 0.5)) / (len(told) + (10 if believed else 5)) < MOST_SHARED:
            slot, exclusive = each, True
            break
    slot = np.where(whole, int(slot.max(initial=0)) + 1 + np.arange(len(slot)), slot)
    _, first, slot = np.unique(slot, return_index=True, return_inverse=True)
    _, slot_class = np.unique(other[parent[first]] * (int(kinds.max(initial=0)) + 1) + kinds[call[first]], return_inverse=True)
    return slot, slot_class, np.full(len(failed), exclusive)


def _times(facts: Facts, kind: str, mine: Array, theirs: Array, first: Array) -> list[Comparison]:
    begin = np.where(first[mine] >= facts.arrival[theirs], first[mine], facts.start[mine])
    waited = np.maximum(begin - facts.received[theirs], 0)
    fresh = np.where(facts.begin[mine] == facts.start[mine], 0, np.where(facts.begin[mine] >= facts.arrival[theirs], 1, 2))
    return [
        compare.nesting(facts.end[mine], facts.answer[mine], facts.reply[theirs]),
        *(_alone(facts, theirs, waited) if kind == "dns" else _around(facts, mine, theirs, waited)),
        Comparison("opened", fresh, (0.5, 0.48, 0.02), (0.5, 0.3, 0.2)),
    ]


def _around(facts: Facts, mine: Array, theirs: Array, waited: Array) -> list[Comparison]:
    """What a call gets is passed on: times before it and after it, which belong to the same request, tell one another."""
    known = (facts.reply[theirs] >= 0) & (facts.end[mine] >= 0)
    after = facts.reply[theirs] - facts.end[mine]
    return [compare.delays("before", waited, np.ones(len(mine), bool), 8), compare.delays("after", after, known, 8)]


def _alone(facts: Facts, theirs: Array, waited: Array) -> list[Comparison]:
    """What follows a lookup is the call that it was made for: when the request was answered says nothing of it."""
    spans = np.maximum(facts.close - facts.received, 0)[np.unique(theirs)]
    return [compare.unlike_chance("before", waited, compare.anytime(spans))]


def _content(facts: Facts, calls: Array, serving: Array, call: Array, parent: Array) -> list[Comparison]:
    ours, theirs = ([facts.exchanges[row] for row in rows.tolist()] for rows in (calls, serving))
    found = []
    for name, of_response, attribute, word in _PASSED_ON:
        texts = [
            [(each.answers if of_response else each.attributes).get(attribute) if each else None for each in side]
            for side in (ours, theirs)
        ]
        mine, other = compare.codes(*texts)
        found.append(compare.passing(name, compare.agreement(mine[call], other[parent], other), word))
    mine, other = compare.codes([each.status if each else None for each in ours], [each.status if each else None for each in theirs])
    found.append(compare.passing("status", compare.agreement(mine[call], other[parent], other), "status"))
    forwarded = [_forwarded(each.attributes) if each else None for each in ours]
    level = np.zeros(len(call), "i8")
    for clients in _clients(facts, serving, theirs):
        mine, other = compare.codes(forwarded, clients)
        level = np.maximum(level, compare.agreement(mine[call], other[parent], other))
    found.append(compare.passing("forwarded", level, "forwarded-client"))
    found.append(
        compare.identifiers(
            [each.attributes if each else {} for each in ours], [each.attributes if each else {} for each in theirs], call, parent
        )
    )
    return found


def _clients(facts: Facts, serving: Array, requests: list[Exchange | None]) -> list[list[str | None]]:
    """Who a proxy may say its client is: its peer, whom a PROXY header names, or whom a proxy before it named."""
    return [
        [facts.peer[row] for row in serving.tolist()],
        [each.attributes.get("proxied_for", "").rpartition(":")[0].strip("[]") if each else None for each in requests],
        [_forwarded(each.attributes) if each else None for each in requests],
    ]


def _forwarded(attributes: dict[str, str]) -> str | None:
    """The address that the sender says its client has: X-Real-IP, or the last that X-Forwarded-For (or Forwarded, RFC 7239) names."""
    if "x-real-ip" in attributes:
        return attributes["x-real-ip"]
    if "x-forwarded-for" in attributes:
        return attributes["x-forwarded-for"].rpartition(",")[2].strip() or None
    last = attributes.get("forwarded", "").rpartition(",")[2]
    named = next((part.partition("=")[2] for part in last.split(";") if part.strip().lower().startswith("for=")), "")
    return named.strip().strip('"').removeprefix("[").partition("]")[0] or None


def _failed(facts: Facts, row: int) -> bool:
    """Whether a call got no proper answer, so that another one may have been made for the same request."""
    exchange = facts.exchanges[row]
    return exchange is None or exchange.response_start < 0 or (exchange.status or "").startswith("5")


def _resolved(
    looked_up: tuple[Array, Array, Array], probable: dict[int, dict[int, float]], mine: Array, theirs: Array, calls: Array, call: Array
) -> Array:
    """How probable (log, per pair) a lookup's parent is by what the lookup led to: that belongs to the same request."""
    led: dict[int, list[tuple[int, float]]] = {}
    for connected, lookup, likely in zip(*(column.tolist() for column in looked_up), strict=True):
        led.setdefault(lookup, []).append((connected, likely))
    told = np.zeros(len(mine))
    for index, (row, request) in enumerate(zip(mine.tolist(), theirs.tolist(), strict=True)):
        for connected, likely in led.get(row, ()):
            told[index] += likely * probable.get(connected, {}).get(request, 0.0)
    candidates = np.maximum(np.bincount(call, minlength=len(calls)), 1)
    unseen = np.maximum(
        1 - np.bincount(call, weights=told, minlength=len(calls)), UNSEEN
    )  # it may have led to nothing, or to something else
    said = told + (unseen / candidates)[call]
    return np.log(said) - np.log((np.bincount(call, weights=said, minlength=len(calls)) / candidates)[call])


def _lone(facts: Facts, calls: Array, call: Array, serving: Array) -> float:
    """The share of calls, of those made while something was being served, that had nothing to do with it.

    What a pod does on its own account it does at any time: calls made while it served nothing show how often.
    """
    with_candidates = len(np.unique(call))
    idle_calls = len(calls) - with_candidates
    span = int(max(facts.close[serving].max(), facts.start[calls].max()) - min(facts.arrival[serving].min(), facts.start[calls].min())) + 1
    callers = np.unique(facts.caller[calls])
    busy = sum(_covered(facts, serving[facts.server[serving] == pod]) for pod in callers.tolist())
    idle = max(span * len(callers) - busy, 1)
    expected = idle_calls / idle * busy
    return float(np.clip((expected + 0.1) / (with_candidates + 1), LEAST_ALONE, MOST_ALONE))


def _covered(facts: Facts, rows: Array) -> int:
    """How long (ns) at least one of these requests was under way."""
    if not len(rows):
        return 0
    order = rows[np.argsort(facts.arrival[rows])]
    reached = np.maximum.accumulate(facts.close[order])
    begin = np.maximum(facts.arrival[order][1:], reached[:-1])
    return int(reached[0] - facts.arrival[order][0] + np.maximum(facts.close[order][1:] - begin, 0).sum())


def _keep(mine: Array, theirs: Array, solved: Solved, led: Array, found: Parents) -> None:
    order = np.lexsort((-solved.probability, mine))
    bounds = np.flatnonzero(np.diff(mine[order], prepend=-1, append=-1))
    begins, ends = bounds[:-1], bounds[1:]
    told = order[np.where(solved.probability[order[begins]] >= LEAST, begins, ends - 1)]  # where nothing is kept, of the least likely
    words = _words(solved, told)
    likely, parents_ = solved.probability[order].tolist(), theirs[order].tolist()
    columns = (mine[told], begins, ends, led[told] > TOLD)
    for call, begin, end, resolved, said in zip(*(column.tolist() for column in columns), words, strict=True):
        kept = range(begin, min(end, begin + KEPT))
        found.candidates[call] = [(parents_[place], likely[place]) for place in kept if likely[place] >= LEAST]
        found.evidence[call] = [*(["resolved-address"] if resolved else []), *said]
        if end - begin == 1:
            found.evidence[call].append("only-candidate")
        elif not found.evidence[call]:
            found.evidence[call].append("under-way")


def _words(solved: Solved, rows: Array) -> list[list[str]]:
    """Why each pair of `rows` is believed: the comparisons that speak for it, most telling first."""
    told: list[list[tuple[float, str]]] = [[] for _ in rows]
    for each, weight in zip(solved.comparisons, solved.weights, strict=True):
        for said, level, weighs in zip(told, each.levels[rows].tolist(), weight[rows].tolist(), strict=True):
            word = each.evidence[level] if level < len(each.evidence) else None
            if word and (weighs > TOLD or word == "nesting"):
                said.append((weighs, word))
    return [list(dict.fromkeys(word for _, word in sorted(said, reverse=True))) for said in told]
