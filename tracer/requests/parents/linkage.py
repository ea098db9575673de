"""How much each agreement is worth, learned from the traffic itself.

Record linkage after Fellegi and Sunter (J. Am. Stat. Assoc. 64, 1969): a pair is compared in several respects, each comparison has a level
(agree, differ, …), and a level's weight is the log of how much likelier it is among pairs that belong together than among those that do
not. Both shares are estimated from the pairs at hand, weighted by how probable each is (expectation maximisation); what is known before any
traffic was seen stands in as a few pairs of each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.jit import bare
from probes.schema import Array
from tracer.requests.parents.rivals import side_by_side


@dataclass(frozen=True, slots=True)
class Comparison:
    """One respect in which pairs are compared: `levels` has the level (small int) of each pair.

    `matched` and `chance` are what each level's share is believed to be beforehand, among true pairs and others; `worth` is how many pairs
    that belief counts. Where it is known what chance does, pairs teach nothing of it (`chance_known`). Shares are of all pairs, or of those
    in the same one of `groups` (of each level, int). `evidence` is the word for a level that speaks for a pair, by level. A pair at the
    level `unknown` could not be compared, which speaks neither for nor against it.
    """

    name: str
    levels: Array
    matched: tuple[float, ...]
    chance: tuple[float, ...]
    worth: float = 10.0
    evidence: tuple[str | None, ...] = ()
    unknown: int = -1
    groups: Array | None = None
    chance_known: bool = False


def weights(comparisons: Sequence[Comparison], probability: Array) -> list[Array]:
    """The log weight (float64) of every pair's level, for each of `comparisons`, given how probable each pair is.

    What a pair teaches does not count for itself: few pairs would else talk themselves into certainty.
    """
    unmatched, none = 1 - probability, np.zeros(len(probability))

    def weight(each: Comparison) -> Array:
        ours = _shares(each, probability, each.matched)
        return ours - _shares(each, none if each.chance_known else unmatched, each.chance)

    return side_by_side(weight, comparisons, len(probability))


def _shares(each: Comparison, own: Array, believed: tuple[float, ...]) -> Array:
    """The log (float64) of each pair's level's share of the `own` (of each pair), and of what is `believed` beforehand; 0 if unknown."""
    counted, group = np.zeros(len(believed)), np.zeros(len(believed), "i8") if each.groups is None else each.groups
    _count(each.levels, own, counted)
    counted = (counted + each.worth * np.array(believed)) * (np.arange(len(believed)) != each.unknown)
    share = np.empty(len(own))
    _divide(each.levels, own, counted, np.bincount(group, weights=counted)[group], each.unknown, share)
    return np.asarray(np.log(share, out=share))


@bare
def _count(level: Array, own: Array, counted: Array) -> None:
    for pair in range(len(level)):
        counted[level[pair]] += own[pair]


@bare
def _divide(level: Array, own: Array, counted: Array, of_all: Array, unknown: int, share: Array) -> None:
    """Each pair's share: what was `counted` of its level without itself, of what was `of_all` of its group; 1 at the level `unknown`."""
    for pair in range(len(level)):
        at = level[pair]
        share[pair] = 1.0 if at == unknown else (counted[at] - own[pair]) / (of_all[at] - own[pair])


def scores(level_weights: Sequence[Array], count: int) -> Array:
    """The sum of all weights per pair (float64)."""
    total = np.zeros(count)
    for weight in level_weights:
        total += weight
    return total
