"""All of it together: sides in, one JSON object out (docs/compare.md). The first side is the one that all others are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from analysis.compare.claims import CLOCKS, DIFFERS, PERHAPS, REFUSED, SMALL, UNSTEADY, VERDICTS, Claim
from analysis.compare.clusters import FEWEST
from analysis.compare.confounders import Confounder, confounders, mix
from analysis.compare.judging import judged
from analysis.compare.samples import DIRECT, METRICS
from analysis.compare.side import Side

Json = dict[str, Any]
SCHEMA = 1
CONTROL = ("request", DIRECT)
ORDER = {verdict: place for place, verdict in enumerate(VERDICTS)}
REMEDIES = {
    SMALL: f"record until each side has {FEWEST} client connections or more of what you ask about: open new ones, keep none alive for long",
    UNSTEADY: "record both sides again in turns (A, B, A, B …), so that what changes with time changes both",
    CLOCKS: "record on one node, or synchronise clocks (PTP), to compare what happens between nodes",
}


def compare(sides: Sequence[Side], *, level: float, seed: int, varied: Iterable[str] = ("mode",)) -> Json:
    """Compare every side with the first. `varied` names what was changed on purpose (keys of `confounders.CHECKS`)."""
    purpose = tuple(varied)
    first = sides[0]
    return {
        "schema": SCHEMA, "level": level, "seed": seed, "varied": list(purpose),
        "sides": [
            {"name": side.name, "fingerprint": side.fingerprint.json(), "client_connections": side.measured.clusters,
             "balance": [each.json() for each in side.spreads]}
            for side in sides
        ],
        "comparisons": [_pair(first, other, level, seed, purpose) for other in sides[1:]],
    }  # fmt: skip


def _pair(a: Side, b: Side, level: float, seed: int, varied: tuple[str, ...]) -> Json:
    claims = judged(a.measured, b.measured, level=level, seed=seed)
    apart = confounders(a.fingerprint, b.fingerprint, varied)
    asked = mix(a.measured, b.measured, level, seed)
    against = [each for each in apart if each.known] + ([] if asked is None else [asked]) + _control(claims, varied)
    if against:
        for claim in claims:
            if claim.verdict in (DIFFERS, PERHAPS):
                claim.verdict, claim.better, claim.why = REFUSED, None, f"the sides differ in {', '.join(each.fact for each in against)}"
    claims.sort(key=_importance)
    told = Counter(claim.verdict for claim in claims)
    return {
        "a": a.name, "b": b.name, "verdict": _verdict(told, refused=bool(against)), "ranked": bool(told[DIFFERS]) and not against,
        "confounders": [each.json() for each in against],
        "unchecked": [each.json() for each in apart if not each.known],
        "cautions": _cautions(claims, varied, refused=bool(against)),
        "record_instead": _instead(against, told),
        "questions": sum(claim.judged for claim in claims), "verdicts": {verdict: told[verdict] for verdict in VERDICTS if told[verdict]},
        "claims": [claim.json() for claim in claims],
    }  # fmt: skip


def _instead(against: Iterable[Confounder], told: Counter[str]) -> list[str]:
    """What to record so that the next comparison tells more; once sides are alike, the rest can be seen."""
    remedies = [each.remedy for each in against]
    return list(dict.fromkeys(remedies or [remedy for verdict, remedy in REMEDIES.items() if told[verdict]]))


def _importance(claim: Claim) -> tuple[int, int, int, float]:
    """Sure differences first, the largest leading; then in the order of METRICS."""
    ratio = claim.ratio[0] if claim.ratio and claim.ratio[0] > 0 else 1.0
    size = max(ratio, 1 / ratio) if claim.verdict == DIFFERS else 0.0
    return ORDER[claim.verdict], list(METRICS).index(claim.metric), claim.kind != "typical", -size


def _verdict(told: Counter[str], *, refused: bool) -> str:
    if refused:
        return REFUSED
    if told[DIFFERS]:
        return DIFFERS
    return PERHAPS if told[PERHAPS] else SMALL if told[SMALL] == sum(told.values()) else "no difference shown"


def _control(claims: Iterable[Claim], varied: tuple[str, ...]) -> list[Confounder]:
    """Requests that no rule of kube-proxy's touched: where those differ for sure, it is not (only) the mode that sets the sides apart."""
    found = next((claim for claim in claims if (claim.metric, claim.group) == CONTROL and claim.verdict == DIFFERS), None)
    if found is None or varied != ("mode",) or found.values is None:
        return []
    a, b = (f"{each / 1e6:.3g} ms" if found.kind == "typical" else f"{each:.1%} slow" for each in found.values)
    remedy = "record both sides again in turns (A, B, A, B …) on machines with nothing else to do: requests without NAT must come out alike"
    return [Confounder("requests to pods, without a Service", (a, b), remedy)]


def _cautions(claims: Iterable[Claim], varied: tuple[str, ...], *, refused: bool) -> list[str]:
    """What to know before believing it."""
    cautions = []
    control = next((claim for claim in claims if (claim.metric, claim.group, claim.kind) == (*CONTROL, "typical")), None)
    if varied == ("mode",) and not refused:
        if control is None or control.verdict == SMALL:
            cautions.append("too few requests to pods without a Service: nothing shows whether the machines themselves were equally fast")
        elif control.verdict == PERHAPS and control.ratio is not None:
            times = "{:.2g} times as long as well ({:.2g} to {:.2g})".format(*control.ratio)
            cautions.append(
                f"requests to pods without a Service, which no rule of kube-proxy's touches, took {times}: "
                "part of what follows may be the machine"
            )
    if len(varied) > 1:
        cautions.append(f"{' and '.join(varied)} were changed together: which of them makes a difference is not told")
    return cautions
