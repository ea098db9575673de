"""How much sooner Dask's workers have a large bundle traced when there are more of them, and whether they say the same."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.rounds import ROOT
from bench.whole import NODES, SNAPLEN, hopline, synthesised

AIM = 1.7  # of two workers against one


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--scale-bundle", type=Path, metavar="DIR", help="an existing one (default: one that is made, of so many packets)")
    parser.add_argument("--scale-packets", type=int, default=3_000_000, metavar="PACKETS", help="of all nodes (default: %(default)s)")
    parser.add_argument(
        "--workers", type=lambda text: [int(each) for each in text.split(",")], default="1,2", help="(default: %(default)s)"
    )


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Each number of workers in each round, each with a folder of its own to spill into."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        bundle = asked.scale_bundle or synthesised(Path(folder), asked.scale_packets)
        for number in range(asked.rounds):
            for workers in asked.workers:
                console.print(f"round {number + 1} of {asked.rounds}: {workers} workers", style="dim")
                runs.append(traced(bundle, workers))
    return {"runs": runs}


def traced(bundle: Path, workers: int) -> dict[str, Any]:
    """One trace by so many workers: the time it took, scheduler and workers started, and what came out."""
    words = ["trace", "--l4-only", "--json", "--engine", "dask", "--workers", str(workers), str(bundle)]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        code = subprocess.run([*hopline(), *words], cwd=ROOT, stdout=output, stderr=errors, check=False).returncode
        seconds = time.perf_counter() - began
        errors.seek(0)
        if code:
            raise SystemExit(f"bench: hopline {' '.join(words)} failed: {errors.read().decode().strip().splitlines()[-1]}")
        output.seek(0)
        connections = sum(1 for _ in output)
        output.seek(0)
        digest = hashlib.file_digest(output, "sha256").hexdigest()
    return {"workers": workers, "seconds": seconds, "connections": connections, "digest": digest}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The times as a table, and how they compare with one worker's."""
    table = Table(
        "workers", "seconds", "times as fast", title=f"Dask's workers, {NODES} nodes, {SNAPLEN} bytes of each packet", box=box.SIMPLE_HEAD
    )
    of = {
        workers: float(np.median([each["seconds"] for each in found["runs"] if each["workers"] == workers]))
        for workers in dict.fromkeys(each["workers"] for each in found["runs"])
    }
    least = min(of)
    for workers, seconds in of.items():
        table.add_row(str(workers), f"{seconds:.1f}", f"{of[least] / seconds:.2f}")
    yield table
    same = len({each["digest"] for each in found["runs"]}) == 1
    yield f"{found['runs'][0]['connections']:,} connections, {'the same from all' if same else 'NOT THE SAME FROM ALL'}"
    if {1, 2} <= set(of):
        yield f"two workers against one: {of[1] / of[2]:.2f}; at least {AIM}: {'reached' if of[1] / of[2] >= AIM else 'missed'}"
