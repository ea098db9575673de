"""Things that are compared run in turn, each in a process of its own: what slows the machine down slows all of them down."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
LOOK_SECONDS = 0.02
MEASURED = ("seconds", "cpu_seconds", "peak_bytes")
Run = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured, by `run`; `lacking` is what is missing where it cannot be."""

    shown: str
    run: Callable[[], Run]
    lacking: str | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """`row` is to take so many times less than `than` takes, `by` the clock ("seconds") or by CPU time ("cpu_seconds")."""

    row: str
    than: str
    times: float
    by: str = "seconds"


def interleaved(rows: Mapping[str, Row], rounds: int, console: Console) -> dict[str, list[Run]]:
    """All runs of what can be measured, in the order of `rows` in each round."""
    runs: dict[str, list[Run]] = {name: [] for name, row in rows.items() if not row.lacking}
    for number in range(rounds):
        for name, each in runs.items():
            console.print(f"round {number + 1} of {rounds}: {rows[name].shown}", style="dim")
            each.append(rows[name].run())
    return runs


def told(words: Sequence[str | Path]) -> dict[str, Any]:
    """What a module of this package, run as a program, prints as JSON."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, words))} failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(words: Sequence[str | Path]) -> Run:
    """One command from its start to its end, with all processes that it starts and waits for. Its output goes nowhere.

    `peak_bytes` is the most that they had in memory together, looked at every LOOK_SECONDS or so; pages that they share count once.
    """
    began = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0)
    peak, ended = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
    watcher.start()
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    ended.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, words))} failed: {said.decode(errors='replace').strip().splitlines()[-1:]}")
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": peak[0]}


def _watch(group: int, peak: list[int], ended: threading.Event) -> None:
    looked = 0.0
    while not ended.wait(max(LOOK_SECONDS, 10 * looked)):  # the system counts page by page, and holds the process up
        began = time.perf_counter()
        peak[0] = max(peak[0], sum(_held_bytes(group)), _highest_bytes(group))
        looked = time.perf_counter() - began


def _highest_bytes(process: int) -> int:
    """The most that one process had so far; its `ru_maxrss` would be what its parent had, where that is more (fs/exec.c, exec_mmap)."""
    try:
        told = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("VmHWM:")), 0)


def _held_bytes(group: int) -> Iterator[int]:
    """Of each process of a process group its pages, and its share of those that it shares (proc_pid_stat(5), proc_pid_smaps(5))."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[2]) != group:
                continue
            told = path.with_name("smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        yield sum(int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("Pss:"))


def medians(runs: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
    """Of each row's runs."""
    return {name: {what: statistics.median(run[what] for run in each) for what in MEASURED} for name, each in runs.items()}


def ratios(results: Mapping[str, Run], bars: Iterable[Bar]) -> list[dict[str, Any]]:
    """How far each of `bars` is reached, where both were measured."""
    return [
        {"row": bar.row, "than": bar.than, "by": bar.by, "at_least": bar.times}
        | {what: results[bar.than][what] / results[bar.row][what] for what in MEASURED}
        for bar in bars
        if bar.row in results and bar.than in results
    ]


def report(title: str, shown: Mapping[str, str], found: Mapping[str, Any]) -> Iterator[Table | str]:
    """`found` has "runs", "ratios" and "lacking": the medians as a table, and which bars are reached."""
    table = Table("", "seconds", "CPU seconds", "least to most", "peak", title=title, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, each in medians(found["runs"]).items():
        cpu = [run["cpu_seconds"] for run in found["runs"][name]]
        peak = f"{each['peak_bytes'] / 1e6:,.0f} MB"
        table.add_row(shown[name], f"{each['seconds']:.2f}", f"{each['cpu_seconds']:.2f}", f"{min(cpu):.2f} to {max(cpu):.2f}", peak)
    yield table
    for name, what in found["lacking"].items():
        yield f"{shown[name]}: not measured, {what} is missing"
    for ratio in found["ratios"]:
        reached = "reached" if ratio[ratio["by"]] >= ratio["at_least"] else "missed"
        clock, cpu, memory = (f"{ratio[what]:,.1f}" for what in MEASURED)
        counted = "by the clock" if ratio["by"] == "seconds" else "by CPU time"
        yield (
            f"{shown[ratio['than']]} : {shown[ratio['row']]} = {clock} by the clock, {cpu} by CPU time, {memory} in memory;"
            f" at least {ratio['at_least']:g} {counted}: {reached}"
        )
