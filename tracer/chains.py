"""The chain of translations of one connection: which tuple is the client's, which the server's, and which node made one of the other.

Per node, the order in which one packet of the client was seen tells before from after. Half-translated copies that br_netfilter shows on a
bridge are told by their shape: source of one tuple, destination of another.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tracer.passages import Passage

Ends = tuple[Hashable, Hashable]  # (source, destination): equal where address and port are


@dataclass(slots=True)
class Translation:
    """One NAT rewrite: tuple codes before and after, on which node, and why that is believed (evidence bits)."""

    node: int
    before: int
    after: int
    evidence: int


@dataclass(slots=True)
class Chain:
    """`translations` in path order; `original` and `translated` are tuple codes, -1 where they cannot be told."""

    original: int
    translated: int
    translations: list[Translation] = field(default_factory=list)
    evidence: int = 0
    problems: list[str] = field(default_factory=list)


def without_intermediates(order: Sequence[int], ends: dict[int, Ends]) -> list[int]:
    """`order` without the half-translated: those that have the source of one tuple and the destination of another, which differ in both."""
    if len(order) < 3:
        return list(order)
    kept = []
    for candidate in order:
        src, dst = ends[candidate]
        before = [t for t in order if t != candidate and ends[t][0] == src]
        after = [t for t in order if t != candidate and ends[t][1] == dst]
        if not any(ends[a][1] != ends[b][1] and ends[a][0] != ends[b][0] for a in before for b in after):
            kept.append(candidate)
    return kept


def translations_seen(seen: Iterable[Passage], ends: dict[int, Ends], bits: int) -> list[Translation]:
    """What packets alone tell.

    A packet may pass a node twice (to another node's NodePort and back): of several nodes that saw one tuple turn into another, the one
    where it took least time did it.
    """
    fastest: dict[tuple[int, int], tuple[int, int]] = {}
    for passage in seen:
        whole = without_intermediates(passage.order, ends)
        complete = [code for code in whole if code in passage.answered] if passage.answered else whole
        if len(complete) < 2:
            complete = whole
        for step in pairwise(complete):
            gap = passage.gaps.get(step)
            if gap is not None and (step not in fastest or gap < fastest[step][0]):
                fastest[step] = gap, passage.node
    return [Translation(node, before, after, bits) for (before, after), (_, node) in fastest.items()]


def chain(seen: Sequence[int], translations: Sequence[Translation], node_rank: dict[int, int]) -> Chain:
    """Put `translations` one behind the other. `seen` are the client's tuples in the order of their nodes on the path."""
    after = {t.after for t in translations}
    before = {t.before for t in translations}
    sources = [t for t in dict.fromkeys(t.before for t in translations) if t not in after]
    sinks = [t for t in dict.fromkeys(t.after for t in translations) if t not in before]
    bits = 0
    for translation in translations:
        bits |= translation.evidence
    if not translations:
        alone = list(dict.fromkeys(seen))
        if len(alone) == 1:
            return Chain(alone[0], alone[0])
        return Chain(-1, -1, problems=["several tuples were joined and no node saw one become the other"])
    if len(sources) != 1 or len(sinks) != 1:
        return Chain(-1, -1, sorted(translations, key=lambda t: node_rank.get(t.node, 0)), bits, ["its translations do not form one chain"])
    ordered, here, left = [], sources[0], list(translations)
    while left:
        step = next((t for t in left if t.before == here), None)
        if step is None:
            return Chain(-1, -1, list(translations), bits, ["its translations do not form one chain"])
        ordered.append(step)
        left.remove(step)
        here = step.after
    return Chain(sources[0], sinks[0], ordered, bits)
