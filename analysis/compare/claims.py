"""One question about two sides, its answer, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.compare.effects import Effect

Json = dict[str, Any]
DIFFERS, PERHAPS, REFUSED, UNSTEADY, CLOCKS, SAME, SMALL = (
    "differs", "perhaps", "not comparable", "not steady", "not separable", "no difference shown", "too small",
)  # fmt: skip
VERDICTS = {  # most important first
    DIFFERS: "holds among all questions about all sides together, at the level asked for",
    PERHAPS: "would hold if it had been the only question; among so many, chance gives some",
    REFUSED: "it would be one of the two above, but the sides differ in more than what is compared",
    UNSTEADY: "the earlier and the later halves of the recordings say the opposite of one another",
    CLOCKS: "smaller than what the nodes' clocks leave open",
    SAME: "the interval spans zero: which side is better is not told",
    SMALL: "too few independent client connections, or node recordings, on a side",
}


@dataclass(slots=True)
class Claim:
    """The answer to one question. Estimates are B less A, with (estimate, low, high); `unit` is "ns" or "share" (0 to 1).

    `kind` is "typical" (Hodges-Lehmann shift), "slowest" (share beyond a common threshold) or "share". `p` is of this question alone,
    `p_together` among all. `clusters` are the independent ones (METRICS says of what) that each side's values are worth.
    """

    metric: str
    group: str
    kind: str
    unit: str
    n: tuple[int, int]
    clusters: tuple[float, float]
    values: tuple[float, float] | None = None  # medians, or shares
    difference: tuple[float, float, float] | None = None
    ratio: tuple[float, float, float] | None = None
    threshold_ns: float | None = None
    p: float | None = None
    p_together: float | None = None
    verdict: str = SMALL
    better: str | None = None
    why: str = ""
    effects: Sequence[Effect] = field(default=())

    @property
    def judged(self) -> bool:
        """Whether there is an answer that chance may have given."""
        return self.p is not None

    def json(self) -> Json:
        """As docs/compare.md has it: a unit in every name."""
        unit = "_ns" if self.unit == "ns" and self.kind == "typical" else "_share"
        told: Json = {
            "metric": self.metric, "group": self.group or None, "kind": self.kind, "verdict": self.verdict, "better": self.better,
            "why": self.why or None, "n": list(self.n), "effective_clusters": [round(each, 1) for each in self.clusters],
            f"values{unit}": None if self.values is None else list(self.values), f"difference{unit}": _interval(self.difference),
            "ratio": _interval(self.ratio), "p": self.p, "p_together": self.p_together,
        }  # fmt: skip
        if self.threshold_ns is not None:
            told["threshold_ns"] = self.threshold_ns
        told["quantiles"] = [
            {"share": e.share, "values_ns": [e.a, e.b], "difference_ns": _interval(e.difference), "ratio": _interval(e.ratio)}
            for e in self.effects
        ]
        return told


def _interval(told: tuple[float, float, float] | None) -> Json | None:
    return None if told is None else dict(zip(("estimate", "low", "high"), told, strict=True))
