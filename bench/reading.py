"""How fast captures are read and traced, beside others on the same file: medians of interleaved rounds, processors' time, peak memory."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.inputs import content_of, padded, repeated, scaled
from bench.inputs import count as frames_of
from bench.others import compiler
from bench.rounds import ROOT, Bar, Row, Run, interleaved, told

SNAPLEN, FULL_SIZE = 96, 1514  # bytes
TRACED_FRAMES = 200_000
PIECE_FRAMES = 1 << 20
KINDS = {"snaps": f"{SNAPLEN} bytes of each packet", "pieces": "the same in pieces", "full": "full-size packets"}
INPUTS = {"snaps": "snaps", "pieces": "snaps", "full": "full"}
COLUMN_BYTES_PER_BYTE = {"snaps": 1.6, "pieces": 0.0, "full": 0.15}


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that is measured: a task of `bench.tasks`, on which input, and what is missing where it cannot be done."""

    shown: str
    task: str
    input: str
    lacking: str | None = None


def tasks() -> dict[str, Task]:
    """Everything that is measured, in order."""
    return {
        "decode": Task("hopline, all cores", "decode", "snaps"),
        "alone": Task("hopline, one thread", "decode-alone", "snaps"),
        "libpcap": Task("libpcap, loop in C", "libpcap", "snaps", None if compiler() else "cc and libpcap-dev"),
        "tcptrace": Task("tcptrace, no tunnels", "tcptrace", "snaps", None if shutil.which("tcptrace") else "tcptrace"),
        "dpkt": Task("dpkt, no tunnels", "dpkt", "snaps", None if find_spec("dpkt") else "dpkt"),
        "tshark": Task("tshark -T fields", "tshark", "snaps", None if shutil.which("tshark") else "tshark"),
        "scapy": Task("scapy", "scapy", "snaps", None if find_spec("scapy") else "scapy"),
        "pyshark": Task(
            "pyshark (XML)", "pyshark", "snaps", None if shutil.which("tshark") and find_spec("pyshark") else "pyshark, tshark"
        ),
        "full": Task("hopline, full-size packets", "decode", "full"),
        "readinto": Task("readinto, nothing else", "readinto", "full"),
        "trace": Task("hopline, whole trace", "trace", "bundle"),
    }


BARS = (Bar("decode", "tshark", 500), Bar("decode", "pyshark", 20_000), Bar("decode", "dpkt", 200), Bar("decode", "libpcap", 1.5),
        Bar("full", "readinto", 0.5))  # fmt: skip


def inputs(asked: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The files to read, by name: a sample's captures again and again, cut to SNAPLEN; the same padded to FULL_SIZE; a bundle."""
    (folder / "traced").mkdir()
    bundle, _ = scaled(ROOT / "sample_pcaps" / "iptables", folder / "traced", min(asked.frames, TRACED_FRAMES))
    content = content_of(ROOT / "sample_pcaps" / "iptables" / "node-a.pcap")
    copies = max(1, asked.frames // frames_of(content))
    files = {"snaps": asked.input or folder / "snaps.pcap", "full": folder / "full.pcap", "bundle": asked.bundle or bundle}
    if not asked.input:
        with files["snaps"].open("wb") as file:
            file.writelines(repeated(content, copies, SNAPLEN))
    with files["full"].open("wb") as file:
        file.writelines(repeated(padded(content, FULL_SIZE), max(1, copies // 4)))
    return {name: path.resolve() for name, path in files.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--input", type=Path, help="pcap file to decode. Default: a sample's captures, repeated, of 96 bytes a packet")
    parser.add_argument("--bundle", type=Path, help="bundle to trace. Default: the same sample, repeated")
    parser.add_argument("--frames", type=int, default=2_000_000, help="size of the default input (default: %(default)s)")
    parser.add_argument("--only", action="append", help="measure this row only (may be repeated)", choices=list(tasks()))
    parser.add_argument(
        "--memory", action="append", type=float, metavar="GB", help="also what memory decoding so much takes (may be repeated)"
    )


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All rounds: what slows the machine down slows everything down."""
    wanted = {name: task for name, task in tasks().items() if not asked.only or name in asked.only}
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        files = inputs(asked, Path(folder))
        rows = {
            name: Row(each.shown, partial(told, ["bench.tasks", each.task, files[each.input]]), each.lacking)
            for name, each in wanted.items()
        }
        runs = interleaved(rows, asked.rounds, console)
        memory = [_memory(kind, files[INPUTS[kind]], size, console) for size in asked.memory or [] for kind in KINDS]
        # a packet of full size is compared with its bytes
        bytes_per_count = dict.fromkeys(runs, 1.0) | ({"full": _bytes_per_frame(files["full"])} if "full" in runs else {})
    name = str(asked.input) if asked.input else f"sample_pcaps/iptables again and again, {SNAPLEN} bytes of each packet"
    results = {task: _summary(each, bytes_per_count[task]) for task, each in runs.items()}
    ratios = [
        {"row": bar.row, "than": bar.than, "at_least": bar.times}
        | {by: results[bar.row][by] / results[bar.than][by] for by in ("per_s", "per_cpu_s")}
        for bar in BARS
        if bar.row in results and bar.than in results
    ]
    lacking = {name: task.lacking for name, task in wanted.items() if task.lacking}
    return {"input": name, "results": results, "ratios": ratios, "memory": memory, "lacking": lacking}


def _bytes_per_frame(path: Path) -> float:
    with path.open("rb") as file:
        first = file.read(40)
    return 16 + int.from_bytes(first[32:36], "little")


def _memory(kind: str, path: Path, gigabytes: float, console: Console) -> dict[str, Any]:
    """What `bench.memory` says of so much like `path`; only what is missing where the columns would not fit into this machine."""
    asked = {"kind": kind, "asked_gb": gigabytes}
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed_bytes = COLUMN_BYTES_PER_BYTE[kind] * gigabytes * 1e9
    if needed_bytes > 0.7 * free_bytes:
        return asked | {"lacking": f"{needed_bytes / 1e9:.0f} GB of free memory for the columns"}
    console.print(f"memory: {gigabytes:g} GB like {path.name}", style="dim")
    return asked | told(["bench.memory", path, str(int(gigabytes * 1e9)), *([str(PIECE_FRAMES)] if kind == "pieces" else [])])


def _summary(runs: list[Run], bytes_per_count: float) -> dict[str, Any]:
    return {
        "count": int(runs[0]["count"]),
        "seconds": [run["seconds"] for run in runs],
        "cpu_seconds": [run["cpu_seconds"] for run in runs],
        "per_s": statistics.median(bytes_per_count * run["count"] / run["seconds"] for run in runs),
        "per_cpu_s": statistics.median(bytes_per_count * run["count"] / run["cpu_seconds"] for run in runs),
        "peak_bytes": int(statistics.median(run["peak_bytes"] for run in runs)),
    }


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The results as a table, and which bars are reached."""
    table = Table("", "a second", "a second of CPU", "seconds", "peak", title=found["input"], box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    known = tasks()
    for name, each in found["results"].items():
        unit = "MB" if known[name].input == "full" else "packets"
        rates = [f"{each[by] / (1e6 if unit == 'MB' else 1):,.0f} {unit}" for by in ("per_s", "per_cpu_s")]
        seconds = f"{min(each['seconds']):.3f} to {max(each['seconds']):.3f}"
        table.add_row(known[name].shown, *rates, seconds, f"{each['peak_bytes'] / 2**20:.0f} MiB")
    yield table
    for name, what in found["lacking"].items():
        yield f"{known[name].shown}: not measured, {what} is missing"
    for ratio in found["ratios"]:
        reached = "reached" if ratio["per_s"] >= ratio["at_least"] else "missed"
        yield (
            f"{known[ratio['row']].shown} : {known[ratio['than']].shown} = {ratio['per_s']:,.2f} by the clock, {ratio['per_cpu_s']:,.2f} by"
            f" CPU time; at least {ratio['at_least']:,g}: {reached}"
        )
    for each in found["memory"]:
        name = f"memory at {each['asked_gb']:g} GB, {KINDS[each['kind']]}"
        if "lacking" in each:
            yield f"{name}: not measured, this takes {each['lacking']}"
            continue
        columns_mb, over_mb = each["column_bytes"] / 1e6, each["over_bytes"] / 1e6
        yield f"{name}: columns {columns_mb:,.0f} MB and {over_mb:.0f} MB more; at most 64 more"
