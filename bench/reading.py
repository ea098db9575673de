"""How fast captures are read and traced, beside tshark and dpkt on the same file: medians of interleaved rounds, peak memory."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.inputs import scaled

ROOT = Path(__file__).parents[1]
WHAT = {
    "decode": "hopline, decoding",
    "trace": "hopline, whole trace",
    "tshark": "tshark -T fields",
    "dpkt": "dpkt, no tunnels",
}
TARGET = 20  # times tshark


def measured(task: str, path: Path) -> dict[str, float]:
    """One run of a task in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "bench.tasks", task, str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {task} failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def rounds(paths: dict[str, Path], count: int, console: Console) -> dict[str, dict[str, Any]]:
    """`count` interleaved rounds: what slows the machine down slows everything down."""
    runs: dict[str, list[dict[str, float]]] = {task: [] for task in paths}
    for number in range(count):
        for task, path in paths.items():
            console.print(f"round {number + 1} of {count}: {WHAT[task]}", style="dim")
            runs[task].append(measured(task, path))
    return {
        task: {
            "packets": int(each[0]["packets"]),
            "seconds": [run["seconds"] for run in each],
            "packets_per_s": statistics.median(run["packets"] / run["seconds"] for run in each),
            "peak_bytes": int(statistics.median(run["peak_bytes"] for run in each)),
        }
        for task, each in runs.items()
    }


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--input", type=Path, help="pcap file to decode. Default: a sample's captures, repeated")
    parser.add_argument("--bundle", type=Path, help="bundle to trace. Default: the same repeated sample")
    parser.add_argument("--frames", type=int, default=200_000, help="size of the default input (default: %(default)s)")


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All rounds."""
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        bundle, file = scaled(ROOT / "sample_pcaps" / "iptables", Path(folder), asked.frames)
        bundle, file = (asked.bundle or bundle).resolve(), (asked.input or file).resolve()
        paths = {"decode": file, "trace": bundle}
        paths |= {"tshark": file} if shutil.which("tshark") else {}
        paths |= {"dpkt": file}
        results = rounds(paths, asked.rounds, console)
    speed = results["decode"]["packets_per_s"]
    ratios = {task: speed / results[task]["packets_per_s"] for task in ("tshark", "dpkt") if task in results}
    name = str(asked.input) if asked.input else f"sample_pcaps/iptables repeated to {results['decode']['packets']:,} frames"
    return {"input": name, "results": results, "ratios": ratios}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The results as a table, and whether the target is reached."""
    table = Table("", "packets/s", "seconds", "hopline is", "peak", title=found["input"], box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for task, each in found["results"].items():
        seconds, ratio = each["seconds"], found["ratios"].get(task)
        table.add_row(
            WHAT[task], f"{each['packets_per_s']:,.0f}", f"{min(seconds):.2f} to {max(seconds):.2f}",
            f"{ratio:.0f} x as fast" if ratio else "", f"{each['peak_bytes'] / 2**20:.0f} MiB",
        )  # fmt: skip
    yield table
    if ratio := found["ratios"].get("tshark"):
        yield f"target: {TARGET} x tshark, {'reached' if ratio >= TARGET else 'missed'} ({ratio:.1f} x)"
