"""All of it together: sides in, one JSON object out (docs/compare.md). The first side is the one that all others are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from analysis.compare.claims import CLOCKS, DIFFERS, PERHAPS, REFUSED, SAME, SMALL, UNSTEADY, VERDICTS, Claim
from analysis.compare.clusters import FEWEST
from analysis.compare.confounders import Confounder, confounders, mix
from analysis.compare.controls import cautions, machines
from analysis.compare.judging import answerable, drift, judged
from analysis.compare.samples import METRICS, RECORDING, Measured
from analysis.compare.side import Side
from analysis.compare.spread import corrected
from analysis.progress import Working, unseen

Json = dict[str, Any]
SCHEMA = 1
ORDER = {verdict: place for place, verdict in enumerate(VERDICTS)}
_IN_TURNS = "record both sides again in turns (A, B, A, B …), so that what changes with time changes both"
REMEDIES = {  # (verdict, whether on what recording costs)
    (SMALL, False): f"record until each side has {FEWEST} client connections or more of what you ask about: open new ones, keep none alive "
    "for long",
    (UNSTEADY, False): _IN_TURNS,
    (UNSTEADY, True): _IN_TURNS,
    (CLOCKS, False): "record on one node, or synchronise clocks (PTP), to compare what happens between nodes",
    (SMALL, True): f"to compare what recording costs, put {FEWEST} recordings of a node into each side: short ones, in turns",
}


def compare(sides: Sequence[Side], *, level: float, seed: int, varied: Iterable[str] = ("mode",), progress: Working = unseen) -> Json:
    """Compare every side with the first. `varied` names what was changed on purpose (keys of `confounders.CHECKS`)."""

    def watched(side: Side) -> Working:
        return lambda what, done, total: progress(f"{side.name}: {what}", done, total)

    purpose = tuple(varied)
    drifts = [drift(side.measured, level=level, seed=seed, progress=watched(side)) for side in sides]
    balances = corrected([side.spreads for side in sides], level)
    families = answerable(family for other in sides[1:] for family in _families(sides[0], other))
    pairs = [
        _pair(
            sides[0],
            other,
            level,
            seed,
            purpose,
            families,
            _drifts(zip((sides[0].name, other.name), (drifts[0], changed), strict=True)),
            watched(other),
        )
        for other, changed in zip(sides[1:], drifts[1:], strict=True)
    ]
    together = sum(pair["questions"] for pair in pairs)
    return {
        "schema": SCHEMA, "level": level, "seed": seed, "varied": list(purpose),
        "sides": [
            {"name": side.name, "fingerprint": side.fingerprint.json(), "client_connections": side.measured.clusters,
             "drifted_questions": changed, "halved_questions": of, "balance": [each.json() for each in balance]}
            for side, (changed, of), balance in zip(sides, drifts, balances, strict=True)
        ],
        "comparisons": [pair | {"questions_together": together} for pair in pairs],
    }  # fmt: skip


def _families(a: Side, b: Side) -> list[tuple[Measured, Measured]]:
    """What is dealt by itself: client connections, and recordings."""
    return [(a.measured, b.measured), (a.recordings, b.recordings)]


def _drifts(told: Iterable[tuple[str, tuple[int, int]]]) -> list[str]:
    return [
        f"{name} differs from itself, earlier half to later half, in {changed} of {of} questions: time alone may do as much"
        for name, (changed, of) in told
        if changed
    ]


def _pair(a: Side, b: Side, level: float, seed: int, varied: tuple[str, ...], families: int, drifts: list[str], progress: Working) -> Json:
    claims = []
    for family, watched in zip(_families(a, b), (progress, unseen), strict=True):
        claims += judged(*family, level=level, seed=seed, families=families, progress=watched)
    apart = confounders(a.fingerprint, b.fingerprint, varied)
    asked = mix(a.measured, b.measured, level, seed)
    against = [each for each in apart if each.known] + ([] if asked is None else [asked])
    for claim in claims if against else ():
        _refuse(claim, f"the sides differ in {', '.join(each.fact for each in against)}")
    blanket = bool(against)
    if varied == ("mode",) and not against:
        against += machines(claims)
    claims.sort(key=_importance)
    told = Counter(claim.verdict for claim in claims)
    return {
        "a": a.name, "b": b.name, "verdict": _verdict(told, refused=blanket), "ranked": bool(told[DIFFERS]),
        "confounders": [each.json() for each in against],
        "unchecked": [each.json() for each in apart if not each.known],
        "cautions": [] if blanket else cautions(claims, varied) + drifts,
        "record_instead": _instead(against, claims),
        "questions": sum(claim.judged for claim in claims), "verdicts": {verdict: told[verdict] for verdict in VERDICTS if told[verdict]},
        "claims": [claim.json() for claim in claims],
    }  # fmt: skip


def _refuse(claim: Claim, why: str) -> None:
    if claim.verdict in (DIFFERS, PERHAPS):
        claim.verdict, claim.better, claim.why = REFUSED, None, why


def _instead(against: Iterable[Confounder], claims: Iterable[Claim]) -> list[str]:
    """What to record so that the next comparison tells more; once sides are alike, the rest can be seen."""
    remedies = [each.remedy for each in against]
    told = {(claim.verdict, claim.metric == RECORDING) for claim in claims}
    return list(dict.fromkeys(remedies or [remedy for case, remedy in REMEDIES.items() if case in told]))


def _importance(claim: Claim) -> tuple[int, int, int, float]:
    """Sure differences first, the largest leading; then in the order of METRICS."""
    ratio = claim.ratio[0] if claim.ratio and claim.ratio[0] > 0 else 1.0
    size = max(ratio, 1 / ratio) if claim.verdict == DIFFERS else 0.0
    return ORDER[claim.verdict], list(METRICS).index(claim.metric), claim.kind != "typical", -size


def _verdict(told: Counter[str], *, refused: bool) -> str:
    if refused or (told[REFUSED] and not told[DIFFERS]):
        return REFUSED
    if told[DIFFERS]:
        return DIFFERS
    return PERHAPS if told[PERHAPS] else SMALL if told[SMALL] == sum(told.values()) else SAME
