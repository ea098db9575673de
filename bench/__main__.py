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

from bench import drain, ledger, overhead, reading

WHAT = {"reading": reading, "drain": drain, "overhead": overhead, "ledger": ledger}
PROGRAMS = {"tshark": ["tshark", "--version"], "tcpdump": ["tcpdump", "--version"], "nginx": ["nginx", "-v"], "wrk": ["wrk", "-v"]}


def versions() -> dict[str, str]:
    """What was measured with."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release()}
    found |= {"processors": str(os.cpu_count()), "load": Path("/proc/loadavg").read_text().split(" ", 1)[0]}
    for package in ("hopline", "numpy", "numba", "dpkt", "pyshark"):
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
    options.add_argument("what", nargs="?", choices=WHAT, default="reading", help="(default: %(default)s)")
    options.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    options.add_argument("--json", action="store_true", help="print JSON")
    for name, each in WHAT.items():
        each.options(options.add_argument_group(name, each.__doc__))
    asked = options.parse_args()
    found = {"versions": versions()} | WHAT[asked.what].measure(asked, Console(stderr=True))
    if asked.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    out = Console()
    for each in WHAT[asked.what].report(found):
        out.print(each, highlight=False)
    out.print(", ".join(f"{key} {value}" for key, value in found["versions"].items()), style="dim", highlight=False)


if __name__ == "__main__":
    main()
