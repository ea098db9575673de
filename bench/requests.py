"""How fast requests are found, from a cold start, beside the tshark passes that this needs."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from bench.inputs import scaled
from bench.rounds import ROOT, Bar, Row, interleaved, medians, ratios, run
from bench.rounds import report as reported
from bench.whole import hopline
from probes.dissect import exchanges
from probes.dissect.feed import FILE_HEADER
from probes.dissect.pdml import Layer
from probes.dissect.tshark import command
from tracer.bundle import read_bundle
from tracer.requests.dissection import dissect
from tracer.trace import Trace, trace

SHOWN = {"hopline": "hopline trace --json", "given": "tshark, what it is given", "all": "tshark, all messages"}
BARS = (Bar("hopline", "all", 1 / 1.3, "seconds"),)
SAMPLE, FRAMES = ROOT / "sample_pcaps" / "iptables", 100_000


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--requests-bundle", metavar="DIR", type=Path, help="bundle to find requests in. Default: a sample, repeated")
    parser.add_argument("--requests-frames", type=int, default=FRAMES, help="size of the default bundle (default: %(default)s)")


def messages(traced: Trace, file: Path, *, every: bool) -> list[str]:
    """Write what tshark is given of a trace into a pcap `file`, `every` message or once what is said alike; the words that dissect it."""
    words: list[str] = []

    def written(records: Iterable[bytes], layers: dict[str, str], _parts: list[str], decode_as: list[str], _keys: None) -> Iterator[Layer]:
        words[:] = command(layers, decode_as, file=str(file))
        with file.open("wb") as out:
            out.write(FILE_HEADER)
            out.writelines(records)
        return iter(())

    def never(_messages: object) -> bool:
        return False

    with patch.object(exchanges, "dissect", written), patch.object(exchanges, "_stand_alone", never if every else exchanges._stand_alone):
        dissect(traced.bundle, traced.tables, processes=1)
    return words


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All rounds, after one of hopline's that is not counted: it compiles where nothing was yet."""
    missing = None if shutil.which("tshark") else "tshark"
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as made:
        folder = Path(made)
        bundle = asked.requests_bundle or scaled(SAMPLE, folder, asked.requests_frames)[0]
        words = [*hopline(), "trace", "--json", "--no-cache", bundle]
        run(words)
        rows = {"hopline": Row(SHOWN["hopline"], partial(run, words))}
        traced = trace(read_bundle([bundle]))
        for name in ("given", "all"):
            tshark = [] if missing else messages(traced, folder / f"{name}.pcap", every=name == "all")
            rows[name] = Row(SHOWN[name], partial(run, tshark), missing)
        del traced
        runs = interleaved(rows, asked.rounds, console)
    return {
        "runs": runs,
        "ratios": ratios(medians(runs), BARS),
        "lacking": {name: row.lacking for name, row in rows.items() if row.lacking},
    }


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The results as a table, and which bars are reached."""
    return reported("requests, a first run", SHOWN, found)
