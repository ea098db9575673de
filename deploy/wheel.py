"""Wheels that bring hopline's machine code along, for the Python, numba and kind of machine that they are made with.

A hook of Hatchling's, which HATCH_BUILD_HOOKS_ENABLE=1 turns on (`make wheel`, deploy/Containerfile); other wheels are of sources alone.
hopline runs here on samples, once for each kind of processors, and what was compiled for them goes into the wheel. Without tshark, what
looks into connections is not among it; without leave to ask conntrack, three functions of the ledger's probe are not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HOPLINE = (sys.executable, "-c", "from analysis.commands import main; main()")
# Together these call all that is compiled, with every kind of arguments (tests/test_wheel.py). MADE is a folder that is not there at first.
MADE = "MADE"
RUNS = (
    (sys.executable, "-m", "probes.live.ready"),
    (*HOPLINE, "trace", "sample_pcaps/iptables", "--json"),
    (*HOPLINE, "synth", "--output", MADE, "--requests", "200", "--rate", "20000", "--proxies", "no-ids"),  # so many that parents compete
    (*HOPLINE, "trace", MADE, "--json"),
    (*HOPLINE, "trace", MADE, "--json", "--l4-only", "--partitions", "2"),
    (*HOPLINE, "compare", "sample_pcaps/iptables", "sample_pcaps/iptables"),
)


class MachineCode(BuildHookInterface[Any]):
    """What is compiled for every processor that this machine can be, beside the sources."""

    def dependencies(self) -> list[str]:
        """What hopline needs to run, where the wheel is built in an environment of its own (pip)."""
        return list(self.metadata.core.dependencies)

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the code fits."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from probes.code_folders import BESIDE, HERE, state  # noqa: PLC0415
        from probes.code_ready import processors  # noqa: PLC0415

        self._made = tempfile.TemporaryDirectory(prefix="hopline-")  # there until the wheel is
        folder = Path(os.environ.get("NUMBA_CACHE_DIR") or self._made.name)  # in which most may be compiled already
        asked = os.environ.get("NUMBA_CPU_NAME")
        for processor in [asked] if asked else processors():
            self.app.display_info(f"compiling for {processor}…")
            compile_for(processor, Path(self.root), folder)
        for path in (folder / state()).rglob("*.nb[cio]"):  # others that run from these sources may have begun a file
            build_data["force_include"][str(path)] = f"{HERE.name}/{BESIDE}/{path.relative_to(folder)}"
        build_data["pure_python"], build_data["infer_tag"] = False, True
        build_data["dependencies"].append(f"numba=={installed('numba')}")  # numba takes no code of another version


def compile_for(processor: str, root: Path, folder: Path) -> None:
    """Run hopline of the sources at `root`, so that all it compiles for `processor` is in `folder`."""
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder), "HOPLINE_CACHE": "0", "PYTHONPATH": path,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="hopline-") as made:
        for run in RUNS:
            subprocess.run(
                [str(Path(made) / "bundle") if word == MADE else word for word in run],
                cwd=root,
                env=environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )


if __name__ == "__main__":  # for this machine alone, and what runs from these sources
    from probes.code_folders import BESIDE, HERE
    from probes.code_ready import processor

    compile_for(processor(), HERE.parent, HERE / BESIDE)
