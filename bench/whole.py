"""How fast captures of three nodes become connections, from a cold start, beside tshark and pandas doing the least that tells the same."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rounds import Bar, Row, interleaved, medians, ratios, run
from bench.rounds import report as reported

SHOWN = {"hopline": "hopline trace --l4-only --json", "pandas": "tshark -T fields, pandas"}
BARS = (Bar("hopline", "pandas", 20, "seconds"),)
SNAPLEN, NODES = 96, 3


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--packets", type=int, default=1_000_000, help="of all nodes together (default: %(default)s)")


def synthesised(folder: Path, packets: int) -> Path:
    """A bundle of so many packets in `folder`."""
    bundle = folder / f"packets-{packets}"
    made = ["--packets", str(packets), "--nodes", str(NODES), "--snaplen", str(SNAPLEN), "--l4-only"]
    run([*hopline(), "synth", "--output", bundle, *made])
    return bundle


def hopline() -> list[str]:
    """The command, in this Python."""
    return [sys.executable, "-c", "from analysis.commands import main; main()"]


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All rounds, after one of hopline's that is not counted: it compiles where nothing was yet."""
    tools = {"hopline": [*hopline(), "trace", "--l4-only", "--json"], "pandas": [sys.executable, "-m", "bench.tshark_pandas"]}
    missing = " and ".join(name for name, there in (("tshark", shutil.which("tshark")), ("pandas", find_spec("pandas"))) if not there)
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        bundle = synthesised(Path(folder), asked.packets)
        run([*tools["hopline"], bundle])
        rows = {
            name: Row(SHOWN[name], partial(run, [*words, bundle]), missing if name == "pandas" and missing else None)
            for name, words in tools.items()
        }
        runs = interleaved(rows, asked.rounds, console)
    lacking = {name: row.lacking for name, row in rows.items() if row.lacking}
    return {"packets": asked.packets, "runs": runs, "ratios": ratios(medians(runs), BARS), "lacking": lacking}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The results as a table, and which bars are reached."""
    return reported(f"whole trace, {found['packets']:,} packets of {NODES} nodes, {SNAPLEN} bytes of each", SHOWN, found)
