"""A comparison in words: what the terminal and the page have in common. Texts are as they came; who shows them makes them harmless."""

from __future__ import annotations

from typing import Any

from analysis.compare.claims import DIFFERS, PERHAPS, REFUSED, SMALL
from analysis.compare.samples import METRICS
from analysis.terminal import duration

Json = dict[str, Any]
UNKNOWN = "unknown"


def question(claim: Json) -> str:
    """What was asked: `request to demo/web`, `…, its slowest`."""
    words = METRICS[claim["metric"]].words + (f" {claim['group']}" if claim["group"] else "")
    return f"{words}: slower than {duration(round(claim['threshold_ns']))}" if claim["kind"] == "slowest" else words


def sides(claim: Json) -> tuple[str, str]:
    """Both sides' value: medians, or shares with how many of how many."""
    if claim.get("values_ns"):
        a, b = (duration(round(each)) for each in claim["values_ns"])
        return a, b
    if claim.get("values_share"):
        a, b = (f"{percent(each)} of {n:,}" for each, n in zip(claim["values_share"], claim["n"], strict=True))
        return a, b
    return "-", "-"


def percent(share: float) -> str:
    """A share as people say it: `0.3 %`, `12 %`."""
    return f"{100 * share:.1f} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"


def change(claim: Json) -> str:
    """How much B differs from A, with its interval: `1.5 times (1.4 to 1.7)`; of shares in percentage points."""
    ratio, shift, share = (claim.get(name) for name in ("ratio", "difference_ns", "difference_share"))
    if ratio:
        return "{estimate:.2f} times ({low:.2f} to {high:.2f})".format(**ratio)
    if shift:
        estimate, low, high = (duration(round(shift[name])) for name in ("estimate", "low", "high"))
        return f"{'+' if shift['estimate'] > 0 else ''}{estimate} ({low} to {high})"
    if share:
        return "{:+.1f} points ({:+.1f} to {:+.1f})".format(*(100 * share[name] for name in ("estimate", "low", "high")))
    return "-"


def answer(claim: Json, pair: Json) -> str:
    """The verdict in a few words: who is better, or why that is not told."""
    verdict = claim["verdict"]
    better = pair.get(claim["better"] or "")
    if verdict == DIFFERS:
        return f"{better} is better"
    if verdict == PERHAPS:
        return f"perhaps {better}: 1 in {1 / claim['p']:.0f} by chance, of {pair['questions_together']} questions"
    return f"{verdict}: {claim['why']}" if claim["why"] and verdict != REFUSED else str(verdict)  # why sides cannot be compared leads


def headline(pair: Json) -> str:
    """One sentence about a whole comparison."""
    told, a, b = pair["verdicts"], pair["a"], pair["b"]
    if pair["verdict"] == REFUSED:
        facts = ", ".join(each["fact"] for each in pair["confounders"])
        return f"{a} and {b} cannot be ranked: they differ in {facts}"
    if pair["verdict"] == DIFFERS:
        ahead = {side: sum(c["better"] == side and c["verdict"] == DIFFERS for c in pair["claims"]) for side in "ab"}
        parts = [f"{pair[side]} is better in {count}" for side, count in ahead.items() if count]
        return (
            f"{' and '.join(parts)} of {pair['questions']} questions; {pair['questions'] - told[DIFFERS]} do not tell them apart for sure"
        )
    if pair["verdict"] == SMALL:
        return f"{a} and {b} cannot be ranked: the samples are too small"
    if pair["verdict"] == PERHAPS:
        some = f"{told[PERHAPS]} of {pair['questions']} questions"
        return f"nothing sets {a} and {b} apart for sure: chance alone may have given what differs in {some}"
    return f"no difference between {a} and {b} was shown, in {pair['questions']} questions"


def facts(side: Json) -> list[tuple[str, str]]:
    """A side's fingerprint, fact by fact."""
    found = side["fingerprint"]

    def listed(name: str) -> str:
        return ", ".join(found[name]) or UNKNOWN

    def count(name: str, of: str) -> str:
        return UNKNOWN if found[name] is None else f"{found[name]:,}{of}"

    cost = found["recorder_ns_per_packet"]
    return [
        ("kube-proxy", listed("modes")),
        ("rules", f"{count('rules', '')} on a node, {count('service_ports', ' Service ports')}"),
        ("Services", f"{len(found['services'])} with {found['endpoints']} endpoints" if found["services"] else UNKNOWN),
        ("kernel", listed("kernels")),
        ("machine", "; ".join(found["machines"]) or UNKNOWN),
        ("nodes", listed("nodes")),
        ("captured", f"{listed('nodes_captured')}: {found['packets']:,} packets in {duration(found['duration_ns'])}"),
        ("lost by the capture", count("packets_dropped_by_capture", " packets")),
        (
            "seen",
            f"{found['requests']:,} requests, {found['connections']:,} connections, {side['client_connections']:,} of them clients' own",
        ),
        ("recording cost", "not recorded" if cost is None else f"{cost:.0f} ns per packet in the filter"),
    ]


def spread(told: Json) -> tuple[str, str, str, str]:
    """One Service's balance: name, what it promises, where its connections went, whether that is so."""
    most = sorted(told["endpoints"].items(), key=lambda each: (-each[1], each[0]))
    counts = ", ".join(f"{count} to {name}" for name, count in most[:4]) + (f" and {len(most) - 4} more" if len(most) > 4 else "")
    return told["service"], told["how"], counts, f"{told['verdict']}: {told['why']}"
