"""How often a capture is said to differ from itself: `python -m bench.splits CAPTURE… [--splits 1000] [--sides 3]`.

A capture's client connections are dealt into two halves at random (or more sides), over and over, and compared as `hopline compare`
does. Whatever differs then is a false verdict. Counted are p-values, before what only takes verdicts back (steadiness, clocks, ticks,
confounders), so that the command errs less often than this says.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.compare.chance import chance, dealt, deviates
from analysis.compare.judging import answerable, drift, questions_of, sureness
from analysis.compare.questions import Question, questions
from analysis.compare.samples import Measured, Sample, measured
from analysis.frames import load
from probes.schema import Array

LEVEL = 0.95
LOTS = 2
DEALS = 199  # of each pair of more than two sides
HEAD = (
    "capture", "client connections", "questions", "any, together", "a question alone", "worst question alone",
    "earlier half against later: differ", "CPU seconds",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Split:
    """How many of `splits` pairs of halves had any false verdict at LEVEL, all questions together; and how often each question alone."""

    splits: int
    questions: int
    together: float
    alone: float  # of a question, on average
    worst: float  # of the one that errs most
    worst_of: str
    drifted: int  # questions that set the capture's earlier half apart from its later one: no false verdicts, but why to record in turns


def asked(measured_: Measured) -> list[Question]:
    """The questions that halves of a capture are asked."""
    return list(questions(measured_.samples, {key: len(sample.values) // 2 for key, sample in measured_.samples.items()}))


def split(measured_: Measured, times: int, seed: int = 0) -> Split:
    """Compare `times` random halves, in LOTS.

    What chance does is drawn once per lot, not for each pair of halves: dealing the clusters of two halves anew gives any two halves.
    """
    half = np.arange(measured_.clusters) < measured_.clusters // 2
    mine = [question for question in asked(measured_) if question.answerable(half[question.cluster])]
    if not mine:
        return Split(times, 0, 0.0, 0.0, 0.0, "", 0)
    together, wrong = 0, np.zeros(len(mine))
    halves = dealt(half, times, seed)
    for lot, some in enumerate(np.array_split(halves, LOTS)):
        drawn = chance(mine, half, seed + 1 + lot)
        for z in deviates(mine, some):
            together += bool((drawn.together(z) <= 1 - LEVEL).any())
            wrong += drawn.alone(z) <= 1 - LEVEL
    worst = int(np.argmax(wrong))
    name = " ".join(filter(None, (*mine[worst].key, mine[worst].kind)))
    drifted, _ = drift(measured_, level=LEVEL, seed=seed)
    return Split(times, len(mine), together / times, float(wrong.mean()) / times, float(wrong[worst]) / times, name, drifted)


def split_among(measured_: Measured, sides: int, times: int, seed: int = 0, families: int | None = None) -> float:
    """How often (0 to 1) anything differs when `sides` random parts are compared, the first with each other one, `times` times.

    `families`: what is corrected for, if not for all pairs.
    """
    generator, wrong = np.random.default_rng(seed), 0
    for _ in range(times):
        side = generator.permutation(np.arange(measured_.clusters) % sides)
        first, *others = (part(measured_, side == each) for each in range(sides))
        pairs = [(first, other) for other in others]
        many = families or answerable(pairs)
        wrong += any(_differs(*pair, seed + 1, many) for pair in pairs)
    return wrong / times


def _differs(a: Measured, b: Measured, seed: int, families: int) -> bool:
    mine, is_b = questions_of(a, b)
    answered = [question for question in mine if question.answerable(is_b[question.cluster])]
    _, together = sureness(chance(answered, is_b, seed, DEALS), answered, is_b, families)
    return bool((together <= 1 - LEVEL).any())


def part(measured_: Measured, chosen: Array) -> Measured:
    """What was measured of the clusters that `chosen` (bool per cluster) names."""
    code = np.cumsum(chosen) - 1
    samples = {}
    for key, each in measured_.samples.items():
        mine = chosen[each.cluster]
        samples[key] = Sample(each.values[mine], code[each.cluster[mine]], each.apart_ns)
    return Measured(samples, int(chosen.sum()), measured_.start_ns[chosen], {})


def main() -> None:
    """Print a table row per capture."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("captures", nargs="+", type=Path)
    options.add_argument("--splits", type=int, default=1000, help="(default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options.add_argument("--sides", type=int, default=2, help="More than two: the first is compared with each other one.")
    args = options.parse_args()
    if args.sides > 2:
        for capture in args.captures:
            apart = split_among(measured(load(capture)), args.sides, args.splits, args.seed)
            sys.stdout.write(f"| {'/'.join(capture.parts[-2:])} | {args.sides} | {apart:.1%} |\n")
            sys.stdout.flush()
        return
    sys.stdout.write(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}\n")
    for capture in args.captures:
        found = measured(load(capture))
        begun = time.process_time()
        told = split(found, args.splits, args.seed)
        sys.stdout.write(
            f"| {'/'.join(capture.parts[-2:])} | {found.clusters:,} | {told.questions} | {told.together:.1%} | {told.alone:.1%} "
            f"| {told.worst:.1%} ({told.worst_of or 'none is large enough'}) | {told.drifted} | {time.process_time() - begun:.0f} |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
