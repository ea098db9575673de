"""How sure parents are against how often they are right: `python -m bench.reliability CAPTURE… -o docs/reliability.svg`.

A capture here is a folder with the `truth.jsonl` that clients, proxies and servers logged, and its scorer two folders above
(`eval/score.py`), which says which record answers for which call.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

from analysis.requests import RequestRecorder
from tracer.bundle import kind_of, read_bundle
from tracer.requests import trace_requests
from tracer.trace import trace

Record = dict[str, Any]
EDGES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
FEWEST = 3  # calls in a bin that is drawn


def scorer(path: Path) -> ModuleType:
    """The scorer at `path` as a module."""
    spec = importlib.util.spec_from_file_location("score", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def linked(capture: Path, records: list[Record], judge: ModuleType) -> list[tuple[dict[str, Any], Record, Record | None]]:
    """(leg of the truth, its record, the record of its true parent; None for a client's own), as the scorer aligns them."""
    by_tuple: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record["original"]:
            by_tuple[record["original"]["proto"], record["original"]["src"], record["original"]["dst"]].append(record)
    legs: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for number, each in enumerate(judge.load(capture / "truth.jsonl")):
        for leg in each["legs"]:
            if leg.get("verified") and leg.get("src"):
                legs[leg["proto"], leg["src"], leg["dst"]].append(leg | {"request": number})
    placed = [(leg, record) for key, some in legs.items() for leg, record in judge.align(some, by_tuple.get(key, []))]
    record_of = {(leg["request"], leg["leg"]): record for leg, record in placed}
    return [(leg, record, record_of.get((leg["request"], leg["parent"]))) for leg, record in placed]


def likeliest(capture: Path, judge: ModuleType) -> list[tuple[float, bool]]:
    """(confidence, whether right) of the likeliest parent of every call in a capture that has a parent."""
    found = trace_requests(trace(read_bundle(sorted(path for path in capture.iterdir() if kind_of(path)))))
    records = list(RequestRecorder(found, 0.0))
    calls = [(record, true) for leg, record, true in linked(capture, records, judge) if leg["parent"]]
    return [(record["parent_confidence"] or 0.0, true is not None and record["parent"] == true["id"]) for record, true in calls]


def bins(calls: list[tuple[float, bool]]) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, calls) of each range of confidence that has any."""
    found = []
    for low, high in zip(EDGES[:-1], (*EDGES[1:-1], 1.01), strict=True):
        some = [call for call in calls if low <= call[0] < high]
        if some:
            found.append((sum(share for share, _ in some) / len(some), sum(right for _, right in some) / len(some), len(some)))
    return found


def draw(told: dict[str, list[tuple[float, bool]]], output: Path) -> None:
    """A reliability diagram per scenario, and one of all together: on the line, confidence is what it says."""
    import matplotlib as mpl  # noqa: PLC0415 - needed to draw only

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "hopline"  # the same picture, the same file
    import matplotlib.pyplot as plt  # noqa: PLC0415

    panels = {"all together": [call for calls in told.values() for call in calls], **told}
    rows = -(-len(panels) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(11, 2.7 * rows), sharex=True, sharey=True, squeeze=False)
    for axis, (name, calls) in zip(axes.flat, panels.items(), strict=False):
        points = [each for each in bins(calls) if each[2] >= FEWEST]
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        axis.scatter([p[0] for p in points], [p[1] for p in points], s=[12 + 6 * len(str(p[2])) ** 2 for p in points], color="#0b62a4")
        axis.set_title(f"{name}, {len(calls):,} calls", fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("confidence of the likeliest parent", fontsize=9)
    figure.supylabel("share right", fontsize=9)
    figure.tight_layout()
    figure.savefig(output, metadata={"Date": None})


def main() -> None:
    """Print a table per capture and draw them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("captures", nargs="+", type=Path)
    options.add_argument("-o", "--output", type=Path, help="the SVG to draw")
    args = options.parse_args()
    told: dict[str, list[tuple[float, bool]]] = {}
    for capture in args.captures:
        judge = scorer(capture.parents[2] / "eval" / "score.py")
        calls = told["/".join(capture.parts[-2:])] = likeliest(capture, judge)
        given = [right for share, right in calls if share >= 0.9]
        sys.stdout.write(
            f"| {'/'.join(capture.parts[-2:])} | {len(calls):,} | {sum(right for _, right in calls) / max(len(calls), 1):.4f} "
            f"| {len(given) / max(len(calls), 1):.4f} | {len(given) - sum(given)} |\n"
        )
        sys.stdout.flush()
    if args.output:
        draw(told, args.output)


if __name__ == "__main__":
    main()
