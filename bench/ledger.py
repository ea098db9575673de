"""50,000 new connections a second, each a translated datagram: what the recorder sees, loses and takes (needs root)."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.overhead import cpu_seconds
from tests.live import datagram_load
from tests.live.road import Recorded, Road

PROBES = ("ledger", "packets", "packets,ledger")


class Alone(Road):
    """One namespace, whatever the place is called."""

    def command(self, place: str, *words: str) -> list[str]:  # noqa: ARG002
        """`words` in it."""
        return ["ip", "netns", "exec", self.prefix, *words]


@contextmanager
def alone() -> Iterator[Alone]:
    """A namespace whose datagrams to 10.9.0.0/16 are translated; nothing answers."""
    place = Alone(f"bench{os.getpid()}")
    subprocess.run(["ip", "netns", "add", place.prefix], check=True)
    try:
        place.run("", "sh", "-ec", datagram_load.RULES)
        yield place
    finally:
        subprocess.run(["ip", "netns", "del", place.prefix], check=True)


def run(probes: str, rate: int, count: int) -> dict[str, Any]:
    """One recording of one load."""
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder, alone() as place:
        recording = Recorded(place, Path(folder) / "bundle", "--probes", probes, "--no-rules")
        before = cpu_seconds(recording.process.pid)
        seconds = float(place.run("", sys.executable, str(datagram_load.__file__), str(rate), str(count)))
        cpu = cpu_seconds(recording.process.pid) - before
        account = recording.end()
    stages = ([account["probes"]["ledger"]] if "ledger" in probes else []) + ([account["packets"]["all"]] if "packets" in probes else [])
    found = {what: sum(stage[what] for stage in stages) for what in ("seen", "written", "dropped")}
    return found | {"connections_per_s": count / seconds, "seconds": seconds, "cpu_share": cpu / seconds}


def options(parser: argparse._ActionsContainer) -> None:
    """What can be asked of this one."""
    parser.add_argument("--rate", type=int, default=50_000, help="new connections/s (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=250_007, help="in all, of each run (default: %(default)s)")


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Interleaved rounds."""
    runs: dict[str, list[dict[str, Any]]] = {probes: [] for probes in PROBES}
    for number in range(asked.rounds):
        for probes, some in runs.items():
            console.print(f"round {number + 1} of {asked.rounds}: {probes}", style="dim")
            some.append(run(probes, asked.rate, asked.connections))
    return {"rate": asked.rate, "connections": asked.connections, "runs": runs}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """A row for each set of probes: medians, but of what was dropped and of what does not add up, all of it."""
    table = Table(
        "probes", "connections/s", "events/s", "seen", "written", "dropped", "CPU of a core",
        title=f"{found['connections']:,} new connections, asked for at {found['rate']:,}/s", box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for probes, some in found["runs"].items():
        middle = {what: statistics.median(each[what] for each in some) for what in ("connections_per_s", "cpu_share")}
        per_s = statistics.median(each["seen"] / each["seconds"] for each in some)
        sums = {what: sum(each[what] for each in some) for what in ("seen", "written", "dropped")}
        counts = [f"{each:,}" for each in sums.values()]
        table.add_row(probes, f"{middle['connections_per_s']:,.0f}", f"{per_s:,.0f}", *counts, f"{middle['cpu_share']:.0%}")
    yield table
    lines = [each for some in found["runs"].values() for each in some if each["seen"] != each["written"] + each["dropped"]]
    yield f"seen = written + dropped in every run{'' if not lines else f': NOT in {len(lines)}'}"
