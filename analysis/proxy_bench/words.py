"""A bench's document in words and rows, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from analysis.terminal import duration

Json = dict[str, Any]
NOTHING = "-"
BENDS_FROM = 100  # Services; with fewer, a step is within what two medians differ by
BENT, SLOPE_NS = 2, 0.5  # times the flattest step; what is flatter is no slope
CELL_HEADS = ("Mode", "Services", "To", "First p50", "p95", "p99", "Later p50", "p99", "Rounds ±", "Paired")
PROGRAMMING_HEADS = ("Mode", "Services", "All rules: command", "translates", "One Service: command", "translates")


def time(ns: float | None) -> str:
    """Nanoseconds with three figures or so; a dash where there are none."""
    if ns is None:
        return NOTHING
    return f"{ns / 1000:.2f} µs" if abs(ns) < 99_950 else f"{ns / 1000:.0f} µs" if abs(ns) < 9_999_500 else duration(round(ns))


def cell_rows(told: Json) -> Iterator[tuple[str, ...]]:
    """A row per cell, in the order of CELL_HEADS."""
    for cell in told["cells"]:
        spread = NOTHING if cell["spread"] is None else f"{cell['spread']:.1%}"
        yield (
            cell["mode"], f"{cell['services']:,}", cell["target"], time(cell["first_p50_ns"]), time(cell["first_p95_ns"]),
            time(cell["first_p99_ns"]), time(cell["established_p50_ns"]), time(cell["established_p99_ns"]), spread,
            f"{cell['paired']:,}/{cell['sent']:,}",
        )  # fmt: skip


def programming_rows(told: Json) -> Iterator[tuple[str, ...]]:
    """A row per mode and number of Services, in the order of PROGRAMMING_HEADS."""
    found: dict[tuple[str, int], Json] = {}
    for each in told["programming"]:
        found.setdefault((each["mode"], each["services"]), {})[each["what"]] = each
    for (mode, services), both in found.items():
        cells = [
            _seconds(both[what][key] if what in both else None) for what in ("load", "change") for key in ("returned_ns", "translated_ns")
        ]
        yield (mode, f"{services:,}", *cells)


def _seconds(ns: int | None) -> str:
    return NOTHING if ns is None else duration(ns)


def about(told: Json) -> str:
    """One line: on what, with what."""
    machine, asked = told["machine"], told["asked"]
    whose = f"the rules of {machine['rules']}, about " if "rules" in machine else ""
    return (
        f"Linux {machine['kernel']}, {machine['processors']} processors ({machine['processor']}), load {machine['load']:.1f}; "
        f"{whose}{asked['endpoints']} endpoints per Service, {asked['connections']:,} connections per cell in {asked['rounds']} rounds, "
        f"{asked['caches']} caches, seed {asked['seed']}"
    )


def summary(told: Json) -> list[str]:
    """What the figures say, a line each: fits, the baseline that was taken off, what the instrument costs, what is missing."""
    lines = [_line(each) + _bend(each, told["cells"]) for each in told["fits"]]
    lines += [
        f"taken off: what the same node takes without rules, {time(each['first_p50_ns'])} for a first packet, "
        f"{time(each['established_p50_ns'])} for a later one"
        for each in told["baseline"]
    ]
    instrument = told["instrument"]
    if instrument and instrument["per_sighting_ns"] is not None:
        interval = "" if instrument["low_ns"] is None else f" ({instrument['low_ns']:.0f} to {instrument['high_ns']:.0f})"
        lines.append(
            f"the instrument costs {instrument['per_sighting_ns']:.0f} ns{interval} each time that it sees a packet "
            f"({instrument['pairs']} pairs of bursts with and without it), {instrument['own_clock_ns']:.0f} ns by its own clock; "
            "one of the two times falls between the two points, in the baseline as well"
        )
    lines += _trouble(told)
    return lines


def _line(fit: Json) -> str:
    if fit["slope_ns"] is None:
        return f"{fit['mode']}: one position only, so no line"
    interval = NOTHING if fit["low_ns"] is None else f"{fit['low_ns']:.2f} to {fit['high_ns']:.2f}"
    return f"{fit['mode']}: {time(fit['start_ns'])} + {fit['slope_ns']:.2f} ns ({interval}) for each Service before it"


def _bend(fit: Json, cells: list[Json]) -> str:
    """Where a line is not straight: what each Service costs between one number of Services and the next, in medians to the last one."""
    known = {
        cell["services"]: cell["first_p50_ns"]
        for cell in cells
        if (cell["mode"], cell["target"]) == (fit["mode"], "last") and cell["first_p50_ns"] is not None and cell["services"] >= BENDS_FROM
    }
    sizes = sorted(known)
    steps = [(few, many, (known[many] - known[few]) / (many - few)) for few, many in pairwise(sizes)]
    flattest = min((step for *_, step in steps), default=0.0)
    if flattest < SLOPE_NS or max(step for *_, step in steps) < BENT * flattest:
        return ""
    return "; it bends: " + ", ".join(f"{step:.1f} ns from {few:,} to {many:,}" for few, many, step in steps)


def _trouble(told: Json) -> Iterator[str]:
    sent, paired = (sum(cell[key] for cell in told["cells"]) for key in ("sent", "paired"))
    yield f"{paired:,} of {sent:,} first packets were seen on both sides, translated to an endpoint of their Service"
    bursts = told["bursts"]
    if bursts["slowed"]:
        apart = max((cell["unlevelled_spread"] for cell in told["cells"] if cell["unlevelled_spread"] is not None), default=0)
        yield (
            f"{bursts['slowed']} of {bursts['counted']} bursts were slowed by other work, as their later packets or caches tell; they "
            f"count as what they would have been without, which their cell's other bursts tell (else rounds were up to {apart:.0%} apart)"
        )
    for mode, why in told["unavailable"].items():
        yield f"no {mode}: {why}"
