"""What chance alone does to all questions at once: clusters dealt to two sides over and over.

If the sides are alike, it does not matter which client connection was recorded on which: any other way to deal them would have done. So the
distribution of each answer under chance is drawn, not looked up (Fisher 1935; studentised statistics keep it right where only the spreads
differ: Janssen, Statistics & Probability Letters 36, 1997; Chung & Romano, Ann. Statist. 41, 2013), and drawn for all questions together,
which knows that hops, NAT and requests of one connection go together (Westfall & Young, Resampling-based Multiple Testing, 1993, 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compare.questions import Question
from probes.processors import Progress, in_threads, untold
from probes.schema import Array

DEALS = 1999  # (DEALS + 1) x level is whole for 0.9, 0.95, 0.99 (Davison & Hinkley, 1997, 4.2.5)


@dataclass(frozen=True, slots=True)
class Chance:
    """How far from even (normal deviates, never negative) each question came out in each deal: float64 of shape (deals, questions)."""

    deviates: Array

    def alone(self, z: Array) -> Array:
        """How often chance alone takes each question as far as `z` (float64, per question)."""
        found: Array = (1 + (self.deviates >= z).sum(axis=0)) / (len(self.deviates) + 1)
        return found

    def together(self, z: Array) -> Array:
        """The same among all questions: below 5 %, the chance that any such is false stays below 5 % (step-down maxT)."""
        found = np.zeros(len(z))
        order = np.argsort(z, kind="stable")  # the most even first
        most = np.maximum.accumulate(self.deviates[:, order], axis=1)
        p = (1 + (most >= z[order]).sum(axis=0)) / (len(self.deviates) + 1)
        found[order] = np.maximum.accumulate(p[::-1])[::-1]
        return found

    def bounds(self, level: float) -> Array:
        """How far each question must come out so that chance alone does not take it there, at `level`."""
        return np.quantile(self.deviates, level, axis=0, method="higher") if len(self.deviates) else np.zeros(0)


def deviates(questions: Sequence[Question], is_b: Array, progress: Progress = untold) -> Array:
    """How far from even each question comes out: float64 of shape (deals, questions), for `is_b`, bool of shape (deals, clusters)."""
    found = np.zeros((len(is_b), len(questions)))
    for place, (_, z) in enumerate(in_threads(lambda question: question.lean(is_b), questions, progress=progress)):
        found[:, place] = np.abs(z)
    return found


def dealt(is_b: Array, times: int, seed: int) -> Array:
    """The clusters dealt anew `times` times, as many to each side as `is_b` (bool) has: bool of shape (times, clusters)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(is_b) for _ in range(times)])


def chance(questions: Sequence[Question], is_b: Array, seed: int, deals: int = DEALS, progress: Progress = untold) -> Chance:
    """What `deals` ways to deal the clusters do to the questions; `is_b` is bool per cluster."""
    return Chance(deviates(questions, dealt(is_b, deals, seed), progress))
