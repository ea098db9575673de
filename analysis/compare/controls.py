"""Was it the mode, or the machine? What kube-proxy has no hand in must come out alike; where it does not, only what exceeds it counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.compare.claims import DIFFERS, PERHAPS, REFUSED, SMALL, Claim
from analysis.compare.confounders import Confounder
from analysis.compare.samples import DIRECT

CONTROL = ("request", DIRECT)
SECOND = ("hop", "local")  # seen wherever packets are; kube-proxy's filter rules may cost a little there
WORDS = {
    CONTROL: "requests to pods without a Service, which no rule of kube-proxy's touches,",
    SECOND: "packets between interfaces of one node, where nothing is translated,",
}
REMEDY = (
    "record both sides again in turns (A, B, A, B ...) on machines with nothing else to do: requests without a Service must come out alike"
)


def machines(claims: Sequence[Claim]) -> list[Confounder]:
    """Takes back every claim on latency that the machines alone may explain, where requests without kube-proxy differ for sure.

    Kept is what lies outside of the control's interval: of two intervals of 95 % that do not meet, the difference is surer than 95 %
    (Schenker & Gentleman, The American Statistician 55, 2001).
    """
    control = _typical(claims, CONTROL)
    if control is None or control.verdict != DIFFERS or control.values is None:
        return []
    ahead = control.better
    for claim in claims:
        if claim.verdict in (DIFFERS, PERHAPS) and claim.unit == "ns" and claim.better == ahead and not _exceeds(claim, control):
            claim.verdict, claim.better, claim.why = REFUSED, None, "requests that no rule of kube-proxy's touches differ as much"
    a, b = (f"{each / 1e6:.3g} ms" for each in control.values)
    return [Confounder("speed of requests to pods without a Service", (a, b), REMEDY)]


def _typical(claims: Iterable[Claim], key: tuple[str, str]) -> Claim | None:
    return next((claim for claim in claims if (claim.metric, claim.group, claim.kind) == (*key, "typical")), None)


def _exceeds(claim: Claim, control: Claim) -> bool:
    """Whether a claim goes the control's way, and farther for sure."""
    if claim.ratio is None or control.ratio is None:
        return False
    return claim.ratio[1] > control.ratio[2] if claim.better == "a" else claim.ratio[2] < control.ratio[1]


def cautions(claims: Sequence[Claim], varied: tuple[str, ...]) -> list[str]:
    """What to know before believing it."""
    told = []
    if len(varied) > 1:
        told.append(f"{' and '.join(varied)} were changed together: which of them makes a difference is not told")
    control = _typical(claims, CONTROL)
    if varied == ("mode",) and (control is None or control.verdict == SMALL):
        told.append(
            "too few requests to pods without a Service were compared: nothing shows for sure whether the machines were equally fast"
        )
    for key in (CONTROL, SECOND) if varied == ("mode",) else ():
        each = _typical(claims, key)
        if each is not None and each.ratio is not None and each.verdict in (DIFFERS, PERHAPS, REFUSED):
            times = "{:.2f} times as long as well ({:.2f} to {:.2f})".format(*each.ratio)
            told.append(f"{WORDS[key]} took {times}: part of what follows may be the machine")
    return told
