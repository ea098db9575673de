"""Answers to all questions about two sides, and which of them stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from analysis.compare.chance import Chance, chance, deviates
from analysis.compare.claims import CLOCKS, DIFFERS, PERHAPS, SAME, UNSTEADY, Claim
from analysis.compare.clusters import FEWEST
from analysis.compare.effects import effects
from analysis.compare.questions import SLOWEST, TYPICAL, Question, questions
from analysis.compare.ranks import shift
from analysis.compare.samples import METRICS, Key, Measured, Sample
from analysis.compare.shares import difference, share
from analysis.progress import Working, unseen
from probes.processors import in_threads
from probes.schema import Array

HALVED = 999  # deals for a side's own halves
NO_RATIO = 0.25  # share of values at or below zero (less than a tick) from which the ranks of ratios mean nothing
_Answer = tuple[Claim, Question, float]  # with how far chance takes the question, at the level asked for


def judged(a: Measured, b: Measured, *, level: float, seed: int, families: int = 1, progress: Working = unseen) -> list[Claim]:
    """A claim for each question that both sides can be asked, in the order of METRICS, with verdicts.

    `families` is how many such sets of questions there are in all (`answerable`): more than two sides are more pairs.
    """
    asked, is_b = questions_of(a, b)
    late = np.concatenate([_late(each.start_ns) for each in (a, b)])
    answered = [question for question in asked if question.answerable(is_b[question.cluster])]
    drawn = chance(answered, is_b, seed, progress=partial(progress, "chance"))
    found = zip(*(each.tolist() for each in (*sureness(drawn, answered, is_b, families), drawn.bounds(level))), strict=True)
    told = dict(zip((id(question) for question in answered), found, strict=True))
    claims, by_key = [], dict[Key, list[_Answer]]()
    for question in asked:
        claim = _claim(question, is_b[question.cluster])
        claims.append(claim)
        if id(question) in told:
            claim.p, claim.p_together, bound = told[id(question)]
            by_key.setdefault(question.key, []).append((claim, question, bound))
    in_threads(partial(_answer, is_b=is_b, late=late, level=level, seed=seed), list(by_key.values()), progress=partial(progress, "sizes"))
    return claims


def sureness(drawn: Chance, answered: Sequence[Question], is_b: Array, families: int) -> tuple[Array, Array]:
    """How often chance takes each question as far, alone and among all questions of all `families` (float64 each).

    Within a family chance is drawn for all questions together. Families share a side, or a moment, which the deals of one know nothing of:
    however they hang together, one of so many is false at most so many times as often (Bonferroni).
    """
    z = deviates(answered, is_b[None])[0]
    return drawn.alone(z), np.minimum(families * drawn.together(z), 1.0)


def answerable(pairs: Iterable[tuple[Measured, Measured]]) -> int:
    """How many of `pairs` have any question that chance could answer."""
    asked = (questions_of(*pair) for pair in pairs)
    return sum(any(question.answerable(is_b[question.cluster]) for question in some) for some, is_b in asked)


def questions_of(a: Measured, b: Measured) -> tuple[list[Question], Array]:
    """The questions about both sides, and which of their clusters are of B (bool)."""
    both = [key for key in a.samples if key in b.samples]
    samples = {key: _together(a.samples[key], b.samples[key], a.clusters) for key in both}
    least = {key: min(len(each.samples[key].values) for each in (a, b)) for key in both}
    return list(questions(samples, least)), np.arange(a.clusters + b.clusters) >= a.clusters


def drift(one: Measured, *, level: float, seed: int, progress: Working = unseen) -> tuple[int, int]:
    """How many questions set a side's earlier half apart from its later one, among all such questions; and how many there are.

    Nobody changed anything between the two: that much may time alone do to what is recorded one after the other.
    """
    late = _late(one.start_ns)
    asked = questions(one.samples, {key: len(sample.values) // 2 for key, sample in one.samples.items()})
    answered = [question for question in asked if question.answerable(late[question.cluster])]
    if not answered:
        return 0, 0
    drawn = chance(answered, late, seed, HALVED, partial(progress, "halves"))
    return int((drawn.together(deviates(answered, late[None])[0]) <= 1 - level).sum()), len(answered)


def _together(a: Sample, b: Sample, first: int) -> Sample:
    return Sample(np.concatenate((a.values, b.values)), np.concatenate((a.cluster, b.cluster + first)), a.apart_ns + b.apart_ns)


def _late(start_ns: Array) -> Array:
    """Which of a side's clusters (bool) are of its later half."""
    late = np.zeros(len(start_ns), bool)
    late[np.argsort(start_ns, kind="stable")[len(start_ns) // 2 :]] = True
    return late


def _claim(question: Question, is_b: Array) -> Claim:
    """What is on both sides, before it is compared."""
    a, b = question.values[~is_b], question.values[is_b]
    metric, group = question.key
    clusters = question.clusters(is_b)
    claim = Claim(metric, group, question.kind, METRICS[metric].unit, (len(a), len(b)), clusters, threshold_ns=question.threshold)
    if len(a) and len(b):
        counted = question.hit.astype("f8") if question.kind != TYPICAL else question.values
        average = np.median if question.kind == TYPICAL else np.mean
        claim.values = (float(average(counted[~is_b])), float(average(counted[is_b])))
    if min(clusters) < FEWEST:
        claim.why = f"worth {min(clusters):.0f} independent {METRICS[metric].independent} on one side: {FEWEST} are needed"
    elif not question.open:
        claim.verdict, claim.why = SAME, "all on both sides" if question.hit.any() else "none on either side"
    return claim


def _answer(answers: Sequence[_Answer], is_b: Array, late: Array, level: float, seed: int) -> None:
    """How large the differences of one sample are, and the verdicts."""
    _, question, _ = answers[0]
    second = is_b[question.cluster]
    of_a, of_b = ((question.values[side], question.cluster[side]) for side in (~second, second))
    shares = [share for _, each, _ in answers if (share := each.quantile) is not None]
    found = iter(effects(*of_a, *of_b, shares, level=level, seed=seed) if shares else ())
    for claim, each, bound in answers:
        _measure(claim, each, second, bound)
        claim.effects = () if each.quantile is None else (next(found),)
        _decide(claim, each, is_b, late, level)


def _measure(claim: Claim, question: Question, is_b: Array, bound: float) -> None:
    a, b = question.values[~is_b], question.values[is_b]
    of_a, of_b = question.cluster[~is_b], question.cluster[is_b]
    if question.kind != TYPICAL:
        claim.difference = difference(share(question.hit[~is_b], of_a), share(question.hit[is_b], of_b), bound)
        return
    found = shift(a, of_a, b, of_b, bound)
    claim.difference = (float(round(found.estimate)), float(round(found.low)), float(round(found.high)))
    if max(np.mean(each <= 0) for each in (a, b)) <= NO_RATIO:
        logs = shift(np.log(np.maximum(a, 1)), of_a, np.log(np.maximum(b, 1)), of_b, bound)
        claim.ratio = (math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high))


def _decide(claim: Claim, question: Question, is_b: Array, late: Array, level: float) -> None:
    """The verdict of a claim that was measured."""
    assert claim.p is not None
    assert claim.p_together is not None
    assert claim.difference is not None
    estimate, low, high = claim.difference
    claim.verdict = DIFFERS if claim.p_together <= 1 - level else PERHAPS if claim.p <= 1 - level else SAME
    if low <= 0 <= high:
        if claim.verdict != SAME and claim.kind == TYPICAL:
            claim.why = "less than the clock's ticks"
        claim.verdict = SAME
        return
    if claim.verdict == SAME:
        return
    if question.apart_ns and (claim.unit != "ns" or question.kind == SLOWEST or min(abs(low), abs(high)) <= question.apart_ns):
        claim.verdict, claim.why = CLOCKS, f"the clocks of the nodes leave {question.apart_ns:,.0f} ns open"
        return
    halves = [_leaning(question, is_b, late == part) for part in (False, True)]
    if any(half * estimate < 0 for half in halves):
        claim.verdict, claim.why = UNSTEADY, "the earlier and the later halves of the recordings say the opposite of one another"
        return
    claim.better = "a" if estimate > 0 else "b"


def _leaning(question: Question, is_b: Array, some: Array) -> float:
    """Which way the sides lean among `some` of the clusters."""
    mine = some[question.cluster]
    part = Question(question.key, question.kind, question.values[mine], question.cluster[mine], threshold=question.threshold)
    b = np.count_nonzero(is_b[part.cluster])
    return float(part.lean(is_b[None])[0][0]) if 0 < b < len(part.values) else 0.0
