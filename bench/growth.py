"""How time and memory of `hopline trace --l4-only` grow with the packets: measured at several sizes, and a line through them."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.compare.clusters import critical, student_of
from bench.rounds import MEASURED, Run, run
from bench.whole import NODES, SNAPLEN, hopline, synthesised

LEVEL = 0.95
NOT_LINEAR = 0.15  # a packet may take this much more of CPU time than in the bundle of BASE packets; less, as starting is shared by more
BASE = 1_000_000
MOST_BYTES = 4_000_000_000
UNITS = {"seconds": ("s", "ns", 1e9), "cpu_seconds": ("s", "ns", 1e9), "peak_bytes": ("bytes", "bytes", 1)}  # of a, of b, how many b of a
COMPILING_PACKETS = 10_000
BYTES_PER_PACKET = {False: 130, True: 400}  # of a bundle on the disk, and of what is spilled


def _sizes(text: str) -> list[int]:
    return [int(float(each) * 1e6) for each in text.split(",")]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--sizes", type=_sizes, default="1,2,4", metavar="MILLIONS", help="of packets, as 1,10,30 (default: %(default)s)")
    parser.add_argument("--spill", action="store_true", help="let packets be kept in files, not in memory")


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Every size in each round; bundles are made for it and removed."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as name:
        folder = Path(name)
        small = synthesised(folder, COMPILING_PACKETS)
        traced(small, spill=asked.spill)  # compiles where nothing was yet
        shutil.rmtree(small)
        for packets in asked.sizes:
            needed_bytes = packets * BYTES_PER_PACKET[asked.spill]
            if shutil.disk_usage(folder).free < 1.2 * needed_bytes:
                raise SystemExit(f"bench: {packets:,} packets need {needed_bytes / 1e9:.1f} GB in {folder}; TMPDIR chooses another place")
            console.print(f"making {packets:,} packets", style="dim")
            bundle = synthesised(folder, packets)
            for number in range(asked.rounds):
                console.print(f"round {number + 1} of {asked.rounds}: {packets:,} packets", style="dim")
                runs.append({"packets": packets} | traced(bundle, spill=asked.spill))
            shutil.rmtree(bundle)
    laws = {what: law([each["packets"] for each in runs], [each[what] for each in runs]) for what in MEASURED}
    return {"spill": asked.spill, "runs": runs, "laws": laws}


def traced(bundle: Path, *, spill: bool) -> Run:
    """One trace of `bundle`, all connections printed; what it spills is put beside the bundle, and removed."""
    if not spill:
        return run([*hopline(), "trace", "--l4-only", "--json", bundle])
    with tempfile.TemporaryDirectory(dir=bundle.parent) as spilled:
        return run([*hopline(), "trace", "--l4-only", "--json", "--spill", spilled, bundle])


def law(packets: Sequence[float], taken: Sequence[float]) -> dict[str, list[float]] | None:
    """`taken = a + b packets`, errors in proportion to what is taken: each constant with its interval (LEVEL), None where that is not told.

    {"a": [value, low, high], "b": …}. Least squares, and Student's t for what the residuals tell of the errors.
    """
    y = np.array(taken, float)
    freedom = len(y) - 2
    if freedom < 1 or len(set(packets)) < 2:
        return None
    design = np.column_stack([np.ones(len(y)), np.array(packets, float)]) / y[:, None]
    scale = np.abs(design).max(axis=0)  # a and b are of very different sizes
    inverse = np.linalg.inv((design / scale).T @ (design / scale)) / np.outer(scale, scale)
    constants = inverse @ design.sum(axis=0)
    variance = float(((design @ constants - 1) ** 2).sum()) / freedom
    half = student_of(critical(LEVEL), freedom) * np.sqrt(variance * np.diag(inverse))
    return {name: [float(value), float(value - d), float(value + d)] for name, value, d in zip("ab", constants, half, strict=True)}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """What each size took, and the laws."""
    title = f"hopline trace --l4-only --json{' --spill' if found['spill'] else ''}, {NODES} nodes, {SNAPLEN} bytes of each packet"
    table = Table("packets", "seconds", "CPU seconds", "CPU, ns a packet", "peak", title=title, box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.justify = "right"
    per_packet: dict[int, float] = {}
    peak_bytes: dict[int, float] = {}
    for packets in dict.fromkeys(each["packets"] for each in found["runs"]):
        here = [each for each in found["runs"] if each["packets"] == packets]
        seconds, cpu, peak = (float(np.median([each[what] for each in here])) for what in MEASURED)
        per_packet[packets], peak_bytes[packets] = cpu / packets, peak
        table.add_row(f"{packets:,}", f"{seconds:.2f}", f"{cpu:.2f}", f"{cpu / packets * 1e9:,.0f}", f"{peak / 1e6:,.0f} MB")
    yield table
    for what, found_law in found["laws"].items():
        unit, each, times = UNITS[what]
        if found_law:
            (a, *a_within), (b, *b_within) = (found_law[name] for name in "ab")
            within = [f"{low:,.4g} to {high:,.4g}" for low, high in (a_within, [times * end for end in b_within])]
            yield f"{what} = {a:,.4g} {unit} ({within[0]}) + {times * b:,.4g} {each} ({within[1]}) a packet"
    largest = max(per_packet)
    if BASE in per_packet and largest > BASE:
        ratio = per_packet[largest] / per_packet[BASE]
        reached = "reached" if ratio <= 1 + NOT_LINEAR else "missed"
        yield f"a packet of {largest:,} takes {ratio:.2f} times the CPU time of one of {BASE:,}; at most {1 + NOT_LINEAR:g}: {reached}"
    reached = "reached" if peak_bytes[largest] < MOST_BYTES else "missed"
    yield f"peak of {largest:,} packets {peak_bytes[largest] / 1e9:.2f} GB; under {MOST_BYTES / 1e9:g} GB: {reached}"
