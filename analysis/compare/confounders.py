"""What else sets two sides apart: each row of CHECKS is a fact that must be equal, and what to record where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.compare.fingerprint import Fingerprint
from analysis.compare.samples import Measured
from probes.schema import Array

DIVISIONS = 999
OTHER_MIX = 0.1  # share of what clients asked that would have to be another thing to make the sides alike
TRUNCATED = 0.01


@dataclass(frozen=True, slots=True)
class Confounder:
    """One fact that differs (or, `known` False, that cannot be compared), what it is on both sides, and what to record instead."""

    fact: str
    sides: tuple[str, str]
    remedy: str
    known: bool = True

    def json(self) -> dict[str, object]:
        """As docs/compare.md has it."""
        return {"fact": self.fact, "a": self.sides[0], "b": self.sides[1], "record_instead": self.remedy}


@dataclass(frozen=True, slots=True)
class Check:
    """`value` gives a comparable fact of a side, None where it is unknown; `said` puts it into words."""

    value: Callable[[Fingerprint], object]
    remedy: str
    missing: str

    def said(self, side: Fingerprint) -> str:
        """The fact in words."""
        value = self.value(side)
        return "unknown" if value is None else _words(value)


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return f"{len(value)} Services, {sum(value.values())} endpoints"
    return str(value)


_CLUSTER = "add `kubectl get nodes,pods,services,endpointslices -A -o json > cluster.json` to the bundle"
CHECKS: dict[str, Check] = {
    "mode": Check(
        lambda each: each.modes or None,
        "record both sides in one mode",
        "add kube-proxy's rules (iptables-save, nft-ruleset, ipvsadm-save)",
    ),
    "kernel": Check(lambda each: each.kernels or None, "record both sides on the same kernel", _CLUSTER),
    "machine": Check(
        lambda each: each.machines or None, "record both sides on the same machines: all virtual or none, equal in size", _CLUSTER
    ),
    "nodes": Check(lambda each: each.nodes or None, "record the same nodes on both sides", _CLUSTER),
    "captured nodes": Check(lambda each: each.captured or None, "capture the same nodes on both sides", "capture something"),
    "services": Check(
        lambda each: dict(each.services) or None, "keep Services and endpoints as they are between the two recordings", _CLUSTER
    ),
}
VARIED = tuple(CHECKS)


def confounders(a: Fingerprint, b: Fingerprint, varied: Iterable[str]) -> list[Confounder]:
    """The facts that differ although nobody means to compare them, and those that cannot be checked (`known` False)."""
    found = []
    for name, check in CHECKS.items():
        here, there = check.value(a), check.value(b)
        if name in varied:
            continue
        if here is None or there is None:
            found.append(Confounder(name, (check.said(a), check.said(b)), check.missing, known=False))
        elif here != there:
            words = _services(a.services, b.services) if name == "services" else (check.said(a), check.said(b))
            found.append(Confounder(name, words, check.remedy))
    return found + _completeness(a, b)


def _services(a: Mapping[str, int], b: Mapping[str, int]) -> tuple[str, str]:
    """What one side has of Services and endpoints that the other has not."""

    def only(one: Mapping[str, int], other: Mapping[str, int]) -> str:
        names = [f"{name} with {one[name]}" for name in sorted(one) if other.get(name) != one[name]]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"{_words(one)}: {', '.join(names[:3])}{more}" if names else _words(one)

    return only(a, b), only(b, a)


def _completeness(a: Fingerprint, b: Fingerprint) -> list[Confounder]:
    """What was lost while recording: slow moments lose most, so that what is left looks fast."""
    found = []
    if a.dropped or b.dropped:
        lost = ("unknown" if each.dropped is None else f"{each.dropped:,} packets dropped" for each in (a, b))
        found.append(Confounder("completeness", _two(lost), "record with larger buffers or fewer packets, until the capture drops none"))
    cut = [each.truncated / max(each.packets, 1) for each in (a, b)]
    if abs(cut[0] - cut[1]) > TRUNCATED:
        short = (f"{each:.0%} of packets cut short" for each in cut)
        found.append(Confounder("snaplen", _two(short), "record both sides with the same snaplen"))
    if a.selections and b.selections and a.selections != b.selections:
        asked = ("; ".join(each.selections) for each in (a, b))
        found.append(Confounder("what was recorded", _two(asked), "give `hopline record` the same options on both sides"))
    return found


def _two(words: Iterable[str]) -> tuple[str, str]:
    a, b = words
    return a, b


def mix(a: Measured, b: Measured, level: float, seed: int) -> Confounder | None:
    """Whether clients asked for other things, or in other shares, by more than chance: clusters are divided anew DIVISIONS times.

    The distance is total variation: what share of one side's requests would have to be something else (Levin & Peres, Markov Chains and
    Mixing Times, 2017, 4.1).
    """
    asked = sorted({*a.mix, *b.mix})
    counts = np.zeros((a.clusters + b.clusters, len(asked)))
    for column, what in enumerate(asked):
        for side, first in ((a, 0), (b, a.clusters)):
            if what in side.mix:
                np.add.at(counts[:, column], side.mix[what] + first, 1)
    is_b = np.arange(len(counts)) >= a.clusters
    apart, shares = _distance(counts, is_b)
    if apart <= OTHER_MIX:
        return None
    chance = np.random.default_rng(seed)
    reached = sum(_distance(counts, chance.permutation(is_b))[0] >= apart for _ in range(DIVISIONS))
    if (reached + 1) / (DIVISIONS + 1) > 1 - level:
        return None
    most = int(np.argmax(np.abs(shares[0] - shares[1])))
    words = _two(f"{each[most]:.0%} of requests were {asked[most]}" for each in shares)
    return Confounder("request mix", words, "send both sides the same requests in the same shares, from one script and one client")


def _distance(counts: Array, is_b: Array) -> tuple[float, Array]:
    sums = np.stack([counts[~is_b].sum(axis=0), counts[is_b].sum(axis=0)])
    shares = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
    return float(np.abs(shares[0] - shares[1]).sum() / 2), shares
