"""Where a Service's connections went: whether random looks random, round robin takes turns, and affinity keeps its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.records import Record
from probes.addresses import Address, endpoint, parse
from probes.schema import Array
from tracer.rules import ServicePath
from tracer.trace import Trace

DRAWS = 9999
FEWEST_PICKS = 12
AFFINITY_S = 10_800  # sessionAffinityConfig.clientIP.timeoutSeconds (Kubernetes API, core/v1 ServiceSpec)
KEEPS, BREAKS, OPEN = "as it says", "not as it says", "not told"
HOW = {
    "random": "a new endpoint by chance for each connection (iptables: statistic, nftables: numgen random)",
    "rr": "IPVS round robin: endpoints take turns, per node and virtual server",
    "ClientIP": "session affinity: one client address stays with one endpoint",
}


@dataclass(frozen=True, slots=True)
class Pick:
    """One connection's choice: at `place` (node and address:port asked for), by `client` (address), which of the `path`'s endpoints."""

    service: str
    place: tuple[str, str]
    client: str
    chosen: str
    time_ns: int
    path: ServicePath


@dataclass(frozen=True, slots=True)
class Spread:
    """One Service: `counts` by endpoint, and whether they are what `how` (a key of HOW, or another scheduler's name) promises.

    `p_uneven`: how often chance alone is at least so uneven, `p_even`: so even (both Monte Carlo, of all places together); `uneven_holm` is
    the first among all Services. `kept` and `breaks` count affinity's repeated connections.
    """

    service: str
    how: str
    n: int
    counts: Mapping[str, int]
    verdict: str
    why: str
    p_uneven: float | None = None
    p_even: float | None = None
    kept: int = 0
    breaks: int = 0

    def json(self) -> dict[str, Any]:
        """As docs/compare.md has it."""
        return {
            "service": self.service, "how": self.how, "connections": self.n, "endpoints": dict(self.counts), "verdict": self.verdict,
            "why": self.why, "p_uneven": self.p_uneven, "p_even": self.p_even, "affinity_kept": self.kept, "affinity_broken": self.breaks,
        }  # fmt: skip


def spreads(trace: Trace, connections: Iterable[Record], *, seed: int) -> list[Spread]:
    """The Services that `connections` (records) went through and whose rules were recorded, most used first; each judged for itself."""
    timeouts = _affinity_timeouts(trace)
    found: dict[str, list[Pick]] = {}
    for pick in picks(trace, connections):
        found.setdefault(pick.service, []).append(pick)
    told = [judge(service, some, timeouts.get(service, AFFINITY_S), seed) for service, some in found.items()]
    return sorted(told, key=lambda each: (-each.n, each.service))


def picks(trace: Trace, connections: Iterable[Record]) -> Iterable[Pick]:
    """What each connection chose at the first translation of its destination, where that node's rules know the address and the endpoint."""
    paths: dict[tuple[str, str, str, str], ServicePath | None] = {}
    for record in connections:
        service, step = record["service"], next((each for each in record["translations"] if "dnat" in each["kinds"]), None)
        if service is None or service["name"] is None or step is None or record["protocol"] not in ("tcp", "udp", "sctp"):
            continue
        source, asked = step["before"].split(" > ")
        chosen, client = step["after"].split(" > ")[1], source.rpartition(":")[0]
        key = (step["node"], asked, client, record["protocol"])
        if key not in paths:
            paths[key] = _path(trace, *key)
        path = paths[key]
        if path is not None and chosen in _names(path):
            yield Pick(f"{service['namespace']}/{service['name']}", (step["node"], asked), client, chosen, record["start_ns"], path)


def _path(trace: Trace, node: str, asked: str, client: str, protocol: str) -> ServicePath | None:
    rules = trace.bundle.rules.get(node)
    if rules is None:
        return None
    address, port = _address(asked.rpartition(":")[0]), int(asked.rpartition(":")[2])
    return rules.service_path(address, port, protocol, source=_address(client), or_node_port=True)


def _address(text: str) -> Address:
    return parse(text.strip("[]"))


def _names(path: ServicePath) -> list[str]:
    return [endpoint(*each.address, each.port) for each in path.endpoints]


def _affinity_timeouts(trace: Trace) -> dict[str, int]:
    found = {}
    for each in trace.bundle.timeline.objects("Service"):
        config = each.get("spec", {}).get("sessionAffinityConfig") or {}
        seconds = (config.get("clientIP") or {}).get("timeoutSeconds")
        if seconds:
            found[f"{each['metadata'].get('namespace')}/{each['metadata']['name']}"] = int(seconds)
    return found


def judge(service: str, some: Sequence[Pick], timeout_s: int, seed: int) -> Spread:
    """Whether one Service's picks are what its rules promise; the verdict is for this Service alone."""
    path = some[0].path
    how = "ClientIP" if path.affinity else path.scheduler or "random"
    counts: dict[str, int] = {}
    for pick in some:
        for name in _names(pick.path):
            counts.setdefault(name, 0)
        counts[pick.chosen] += 1
    if how == "ClientIP":
        return _affinity(service, some, timeout_s, counts)
    several = [pick for pick in some if len(pick.path.endpoints) > 1]
    if not several:
        return Spread(service, how, len(some), counts, OPEN, "one endpoint: there is nothing to choose")
    if how not in HOW:
        return Spread(service, how, len(some), counts, OPEN, f"scheduler {how} goes by load or hash, which packets do not tell")
    if len(several) < FEWEST_PICKS:
        return Spread(service, how, len(some), counts, OPEN, f"{len(several)} connections: {FEWEST_PICKS} are needed")
    strata = _strata(several)
    uneven, even = dispersion(strata, np.random.default_rng(seed))
    return Spread(service, how, len(some), counts, *_VERDICTS[how](strata, uneven, even), uneven, even)


Strata = list[tuple[Array, Array]]  # per place: how often each endpoint was chosen (i8), the probability of each (float64)


def _strata(some: Iterable[Pick]) -> Strata:
    places: dict[tuple[object, ...], tuple[list[str], Array, Array]] = {}
    for pick in some:
        names = _names(pick.path)
        key = (pick.place, tuple(names))
        shares = np.array([each.share for each in pick.path.endpoints], "f8")
        _, counts, _ = places.setdefault(key, (names, np.zeros(len(names), "i8"), shares / shares.sum()))
        counts[names.index(pick.chosen)] += 1
    return [(counts, shares) for _, counts, shares in places.values()]


def dispersion(strata: Strata, chance: np.random.Generator) -> tuple[float, float]:
    """How often independent random choices are at least as uneven, and at least as even, as `strata`: exact but for DRAWS (Monte Carlo).

    Pearson's chi-square of each place, added up; its distribution is drawn (Hope, JRSS B 30, 1968), because with a handful of connections
    per endpoint no table holds.
    """

    def squares(counts: Array, shares: Array) -> Array:
        expected = shares * counts.sum(axis=-1, keepdims=True)
        found: Array = ((counts - expected) ** 2 / expected).sum(axis=-1)
        return found

    seen = sum(float(squares(counts, shares)) for counts, shares in strata)
    drawn = np.zeros(DRAWS)
    for counts, shares in strata:
        drawn += squares(chance.multinomial(int(counts.sum()), shares, DRAWS), shares)
    slack = 1e-9 * max(1.0, seen)
    return float(((drawn >= seen - slack).sum() + 1) / (DRAWS + 1)), float(((drawn <= seen + slack).sum() + 1) / (DRAWS + 1))


def _random(_strata: Strata, uneven: float, _even: float) -> tuple[str, str]:
    return (BREAKS, "more uneven than chance") if uneven <= 0.05 else (KEEPS, "as even as chance makes it")


def _round_robin(strata: Strata, uneven: float, even: float) -> tuple[str, str]:
    if all(int(np.ptp(counts)) <= 1 for counts, _ in strata):
        return KEEPS, "endpoints took exact turns"
    if uneven <= 0.05:
        return BREAKS, "more uneven than even chance would be"
    return (KEEPS, "more even than chance") if even <= 0.05 else (OPEN, "as even as chance: too few to tell turns from it")


_VERDICTS: dict[str, Callable[[Strata, float, float], tuple[str, str]]] = {"random": _random, "rr": _round_robin}


def _affinity(service: str, some: Sequence[Pick], timeout_s: int, counts: Mapping[str, int]) -> Spread:
    last: dict[tuple[tuple[str, str], str], Pick] = {}
    kept = breaks = 0
    for pick in sorted(some, key=lambda each: each.time_ns):  # each node keeps its own table of clients
        before = last.get((pick.place, pick.client))
        if before is not None and pick.time_ns - before.time_ns <= timeout_s * 1_000_000_000:
            kept, breaks = kept + (before.chosen == pick.chosen), breaks + (before.chosen != pick.chosen)
        last[pick.place, pick.client] = pick
    if not kept and not breaks:
        return Spread(service, "ClientIP", len(some), counts, OPEN, "no client came twice within the timeout")
    why = f"{kept} of {kept + breaks} repeated connections went to the endpoint of the one before"
    return Spread(service, "ClientIP", len(some), counts, BREAKS if breaks else KEEPS, why, None, None, kept, breaks)


def corrected(sides: Sequence[Sequence[Spread]], level: float) -> list[list[Spread]]:
    """The same with "not as it says" only where it holds for all Services of all sides together (Holm)."""
    tested = [p for told in sides for each in told if (p := each.p_uneven) is not None]
    sure = dict(zip(tested, holm(tested), strict=True))  # equal ones come out equal

    def stands(each: Spread) -> Spread:
        if each.verdict != BREAKS or each.p_uneven is None or sure[each.p_uneven] <= 1 - level:
            return each
        return replace(each, verdict=OPEN, why=f"{each.why}, but one in {len(tested)} Services may be so by chance")

    return [[stands(each) for each in told] for told in sides]


def holm(p: Sequence[float]) -> list[float]:
    """Each p-value as it stands among all (Holm, Scand. J. Statist. 6, 1979): below 5 %, any such is false by a chance below 5 %."""
    found, reached = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda each: p[each])):
        reached = max(reached, min(1.0, (len(p) - rank) * p[place]))
        found[place] = reached
    return found
