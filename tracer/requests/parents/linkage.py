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

from probes.schema import Array


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
    found = []
    for each in comparisons:
        level, count = each.levels, len(each.matched)
        compared = np.arange(count) != each.unknown
        matched = (np.bincount(level, weights=probability, minlength=count) + each.worth * np.array(each.matched)) * compared
        unmatched = np.zeros(len(level)) if each.chance_known else 1 - probability
        chance = (np.bincount(level, weights=unmatched, minlength=count) + each.worth * np.array(each.chance)) * compared
        group = np.zeros(count, "i8") if each.groups is None else each.groups
        of_matched, of_chance = np.bincount(group, weights=matched), np.bincount(group, weights=chance)
        known = slice(None) if compared.all() else compared[level]
        weight = np.zeros(len(level))
        mine, its = probability[known], level[known]
        ours = (matched[its] - mine) / (of_matched[group[its]] - mine)
        others = (chance[its] - unmatched[known]) / (of_chance[group[its]] - unmatched[known])
        weight[known] = np.log(ours) - np.log(others)
        found.append(weight)
    return found


def scores(level_weights: Sequence[Array], count: int) -> Array:
    """The sum of all weights per pair (float64)."""
    return np.asarray(np.sum([np.zeros(count), *level_weights], axis=0))
