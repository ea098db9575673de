"""`python -m bench`: interleaved rounds of every task, medians, ratios, versions, peak memory."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
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


def versions() -> dict[str, str]:
    """What was measured with."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release()}
    for package in ("hopline", "numpy", "numba", "dpkt"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if shutil.which("tshark"):
        found["tshark"] = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=False).stdout.split("\n", 1)[0]
    return found


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


def report(found: dict[str, Any]) -> Table:
    """The results as a table."""
    table = Table("", "packets/s", "seconds", "hopline is", "peak", title=found["input"], box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for task, each in found["results"].items():
        seconds, ratio = each["seconds"], found["ratios"].get(task)
        table.add_row(
            WHAT[task], f"{each['packets_per_s']:,.0f}", f"{min(seconds):.2f} to {max(seconds):.2f}",
            f"{ratio:.0f} x as fast" if ratio else "", f"{each['peak_bytes'] / 2**20:.0f} MiB",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--input", type=Path, help="pcap file to decode. Default: a sample's captures, repeated")
    options.add_argument("--bundle", type=Path, help="bundle to trace. Default: the same repeated sample")
    options.add_argument("--frames", type=int, default=200_000, help="size of the default input (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    options.add_argument("--json", action="store_true", help="print JSON")
    asked = options.parse_args()
    console = Console(stderr=True)
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
    found: dict[str, Any] = {"input": name, "versions": versions(), "results": results, "ratios": ratios}
    if asked.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    out = Console()
    out.print(report(found))
    out.print(", ".join(f"{key} {value}" for key, value in found["versions"].items()), style="dim", highlight=False)
    if "tshark" in ratios:
        verdict = "reached" if ratios["tshark"] >= TARGET else "missed"
        out.print(f"target: {TARGET} x tshark, {verdict} ({ratios['tshark']:.1f} x)", highlight=False)


if __name__ == "__main__":
    main()
