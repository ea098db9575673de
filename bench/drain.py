"""What reading a ring buffer costs, and how fast it can be filled before something is lost, beside BCC's callbacks (needs root and bcc)."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from probes.live.recorder import POLL_SECONDS

ROOT = Path(__file__).parents[1]
WHAT = {
    "bulk": "hopline, in bulk",
    "bcc": "BCC's callback, counting",
    "file": "hopline, to pcapng files",
    "bcc-file": "BCC's callback, to the same file",
}
BESIDE = {"bulk": "bcc", "file": "bcc-file"}
RATE = 1_000_000  # events/s at which CPU time is compared
LOWEST, HALVINGS = 250_000, 3
WAITING_SECONDS = 0.1  # of events may be in the ring when the producer ends: else the reader is falling behind
OFTEN = 0.005  # s between looks where the highest rate is sought; CPU time is compared with what `hopline record` rests
TARGETS = {"rate": 10, "CPU": 25}


def run(reader: str, rate: float, seconds: float, rest: float) -> dict[str, float]:
    """One run in a process of its own."""
    words = [sys.executable, "-m", "bench.drained", reader, *map(str, (rate, seconds, rest))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {reader} failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def kept_up(found: dict[str, float]) -> bool:
    """Whether nothing was lost, nor would have been a little later."""
    return found["lost"] == 0 and found["waiting"] <= WAITING_SECONDS * found["made"] / found["seconds"]


def highest(reader: str, seconds: float, console: Console) -> float:
    """The highest rate (events/s) that `reader` keeps up with, by doubling and halving; of what was really made."""
    good, rate, bad = 0.0, float(LOWEST), 0.0
    for _ in range(40):
        for _again in range(2):  # a moment in which the whole machine stood still is not the reader's
            found = run(reader, rate, seconds, OFTEN)
            real = found["made"] / found["seconds"]
            console.print(f"{WHAT[reader]}: {real:,.0f} events/s, {found['lost']:,.0f} lost", style="dim", highlight=False)
            if kept_up(found):
                break
        if kept_up(found):
            good = max(good, real)
            if real < 0.9 * rate:  # the producer can do no more
                return good
        else:
            bad = rate
        if bad and bad < good * 2 ** (1 / 2**HALVINGS):
            return good
        rate = (good * bad) ** 0.5 if bad and good else rate / 2 if bad else 2 * rate
    return good


def options(parser: argparse._ActionsContainer) -> None:
    """What can be asked of this one."""
    parser.add_argument("--drain-seconds", type=float, default=3.0, help="of each run (default: %(default)s)")


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The highest rates, then CPU time in interleaved rounds."""
    rates = {reader: highest(reader, asked.drain_seconds, console) for reader in WHAT}
    runs: dict[str, list[dict[str, float]]] = {reader: [] for reader in WHAT}
    for number in range(asked.rounds):
        for reader, some in runs.items():
            console.print(f"round {number + 1} of {asked.rounds}: {WHAT[reader]}", style="dim")
            some.append(run(reader, RATE, asked.drain_seconds, POLL_SECONDS))
    results = {
        reader: {
            "highest_rate": rates[reader],
            "ns_per_event": statistics.median(each["ns_per_event"] for each in some),
            "ns_per_event_of_rounds": [each["ns_per_event"] for each in some],
            "lost_share": statistics.median(each["lost"] / each["made"] for each in some),
        }
        for reader, some in runs.items()
    }
    ratios = {
        ours: {
            "beside": theirs,
            "rate": results[ours]["highest_rate"] / results[theirs]["highest_rate"],
            "CPU": statistics.median(
                b / a for a, b in zip(results[ours]["ns_per_event_of_rounds"], results[theirs]["ns_per_event_of_rounds"], strict=True)
            ),
        }
        for ours, theirs in BESIDE.items()
    }
    return {"events_per_s": RATE, "results": results, "ratios": ratios}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The results as a table, and whether the targets are reached."""
    at = f"at {found['events_per_s']:,}/s"
    table = Table("", "events/s without loss", f"ns CPU per event {at}", f"lost {at}", title="events of 96 bytes", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for reader, each in found["results"].items():
        table.add_row(WHAT[reader], f"{each['highest_rate']:,.0f}", f"{each['ns_per_event']:,.0f}", f"{each['lost_share']:.1%}")
    yield table
    for reader, ratios in found["ratios"].items():
        rate, cpu = (f"{ratios[what]:.1f} x {words} ({_verdict(ratios[what], TARGETS[what])})" for what, words in
                     (("rate", "the rate"), ("CPU", "less CPU")))  # fmt: skip
        yield f"{WHAT[reader]}, beside {WHAT[ratios['beside']]}: {rate}, {cpu}"


def _verdict(ratio: float, target: float) -> str:
    return f"target {target} x {'reached' if ratio >= target else 'missed'}"
