"""`python -m bench [WHAT]`: measure one thing and report it, with what it was measured on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from bench import drain, growth, join, ledger, overhead, reading, requests, scale, whole

WHAT = {
    "reading": reading,
    "join": join,
    "trace": whole,
    "requests": requests,
    "growth": growth,
    "scale": scale,
    "drain": drain,
    "overhead": overhead,
    "ledger": ledger,
}
ALL = ("reading", "join", "trace", "requests", "growth")  # of which `all` consists: what traces; the others are of what records
PROGRAMS = {"tshark": ["tshark", "--version"], "tcpdump": ["tcpdump", "--version"], "nginx": ["nginx", "-v"], "wrk": ["wrk", "-v"]}


def versions() -> dict[str, str]:
    """What was measured with."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release()}
    found |= {"processors": str(os.cpu_count()), "load": Path("/proc/loadavg").read_text().split(" ", 1)[0]}
    for package in ("hopline", "numpy", "numba", "pandas", "polars", "duckdb", "dpkt", "scapy", "pyshark"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    for program, words in PROGRAMS.items():
        if shutil.which(program):
            told = subprocess.run(words, capture_output=True, text=True, check=False)
            found[program] = (told.stdout or told.stderr).split("\n", 1)[0].removeprefix(program).strip()
    return found


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument(
        "what", nargs="?", choices=["all", *WHAT], default="all", help=f"(default: %(default)s, which is {', '.join(ALL)})"
    )
    options.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: %(default)s)")
    options.add_argument("--json", action="store_true", help="print JSON")
    for name, each in WHAT.items():
        each.options(options.add_argument_group(name, each.__doc__))
    asked = options.parse_args()
    used = versions()
    found = {name: WHAT[name].measure(asked, Console(stderr=True)) for name in (ALL if asked.what == "all" else [asked.what])}
    if asked.json:
        sys.stdout.write(json.dumps({"versions": used} | (found if asked.what == "all" else found[asked.what]), indent=2) + "\n")
        return
    out = Console()
    for name, each in found.items():
        for part in WHAT[name].report(each):
            out.print(part, highlight=False)
    out.print(", ".join(f"{key} {value}" for key, value in used.items()), style="dim", highlight=False)


if __name__ == "__main__":
    main()
