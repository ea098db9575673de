"""A comparison as one HTML file: words without a script, distributions overlaid and latency against rules with one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.compare import words
from analysis.compare.samples import METRICS, Key
from analysis.compare.side import Side
from analysis.report import one_file
from analysis.report.markup import table, text
from analysis.statistics import smallest_sample
from analysis.terminal import plain
from probes.schema import Array

Json = dict[str, Any]
ASSETS = Path(__file__).parent / "assets"
NOTHING = "Nothing to tell."
POINTS = 160  # of a curve
MOST_DOTS = 2000  # of one side


def build(told: Json, sides: Sequence[Side], title: str) -> str:
    """The page of what `compare` told about `sides`. It fetches nothing, and needs a script for its pictures only."""
    parts = {
        "level": text(f"Level {told['level']:.0%}; changed on purpose: {', '.join(told['varied']) or 'nothing'}; seed {told['seed']}"),
        "comparisons": "\n".join(_comparison(place, pair) for place, pair in enumerate(told["comparisons"])),
        "balance": "\n".join(map(_balance, told["sides"])), "sides": _facts(told["sides"]),
    }  # fmt: skip
    scripts = (one_file.ASSETS / "words.js", one_file.ASSETS / "columns.js", ASSETS / "compare.js")
    return one_file.page(ASSETS / "body.html", scripts, _pictures(sides), title, parts)


def _comparison(place: int, pair: Json) -> str:
    notes = [f"{each['fact']}: {each['a']} against {each['b']}" for each in pair["confounders"]]
    notes += [f"not checked: {each['fact']} ({each['a']}; {each['b']}); {each['record_instead']}" for each in pair["unchecked"]]
    notes += pair["cautions"]
    rows = [
        (words.question(claim), *words.sides(claim), words.change(claim), words.answer(claim, pair))
        for claim in pair["claims"]
    ]  # fmt: skip
    head = ("Question", pair["a"], pair["b"], f"{pair['b']} against {pair['a']}", "Answer")
    classes = [claim["verdict"].replace(" ", "-") for claim in pair["claims"]]
    first = "" if place else ' id="answers"'
    instead = "<h3>Record instead</h3>" if pair["record_instead"] else ""
    return (
        f'<section class="pair"{first}><h2>{text(pair["b"])} against {text(pair["a"])}</h2>'
        f'<p class="verdict">{text(words.headline(pair))}</p>{_list(notes)}{instead}{_list(pair["record_instead"])}'
        f'<div class="scroll">{table(head, rows, classes, empty=NOTHING)}</div></section>'
    )


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _balance(side: Json) -> str:
    rows = [words.spread(each) for each in side["balance"]]
    return f"<h3>{text(side['name'])}</h3>" + table(("Service", "Promises", "Connections", "Answer"), rows, empty=NOTHING)


def _facts(sides: Sequence[Json]) -> str:
    columns = [words.facts(side) for side in sides]
    rows = [(each[0][0], *(told for _, told in each)) for each in zip(*columns, strict=True)]
    return table(("", *(side["name"] for side in sides)), rows, empty=NOTHING)


def _pictures(sides: Sequence[Side]) -> Json:
    """What the script draws: curves by metric and group, dots of first packets."""
    keys: dict[Key, None] = {}
    for name in METRICS:
        for side in sides:
            keys |= dict.fromkeys(key for key in side.measured.samples if key[0] == name)
    groups = [
        {"name": plain(f"{METRICS[metric].words} {group}".strip()), "sides": curves}
        for metric, group in keys
        if METRICS[metric].unit == "ns" and len(curves := [*_curves(sides, (metric, group))]) > 1
    ]
    return {"groups": groups, "positions": [_dots(side) for side in sides]}


def _curves(sides: Sequence[Side], key: Key) -> Iterable[Json]:
    for side in sides:
        sample = side.measured.samples.get(key)
        if sample is None or not len(sample.values):
            continue
        values = np.sort(sample.values)
        percentiles = {f"p{percent}": _quantile(values, percent / 100) for percent in (50, 90, 99)}
        yield {"name": plain(side.name), "n": len(values), "points": _ecdf(values), **percentiles}


def _ecdf(values: Array) -> list[list[float]]:
    """[ns, share at or below it], from 0 on."""
    size = min(POINTS, len(values))
    reached = [-(-number * len(values) // size) for number in range(1, size + 1)]
    return [[float(values[0]), 0.0], *([float(values[each - 1]), each / len(values)] for each in reached)]


def _quantile(values: Array, share: float) -> float | None:
    """None where there are too few values for it to mean anything."""
    return float(np.quantile(values, share)) if len(values) >= smallest_sample(share) // 2 else None


def _dots(side: Side) -> Json:
    known = np.array([(rules, ns) for rules, ns in side.positions if ns > 0], "i8").reshape(-1, 2)
    shown = known[:: max(1, -(-len(known) // MOST_DOTS))]
    medians = [[int(rules), float(np.median(known[known[:, 0] == rules, 1]))] for rules in np.unique(known[:, 0])]
    return {"name": plain(side.name), "points": shown.tolist(), "medians": medians}
