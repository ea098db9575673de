"""All that the requests of a bundle follow from, as a key: inputs, options, hopline's own code, the tshark that is installed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from analysis.cache.digests import Digests
from probes.code_folders import sources
from probes.dissect import find_tshark
from tracer.bundle_files import STANDARD_INPUT, BundleError, find_files

_SOURCES = {"probes": (".py",), "tracer": (".py",), "analysis": (".py", ".js", ".css", ".html")}
_SWITCHES = ("use_ledger", "use_rules", "use_cluster")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: the arguments of `read_bundle` and `trace_requests`."""

    paths: Sequence[Path]
    cluster: Sequence[Path] = ()
    use_ledger: bool = True
    use_rules: bool = True
    use_cluster: bool = True
    keys: Path | None = None

    def key(self, folder: Path) -> str | None:
        """Equal keys, equal answers. None where that cannot be said: standard input, no capture, a file that cannot be read.

        `folder` is where digests are remembered.
        """
        if STANDARD_INPUT in self.paths:
            return None
        digests = Digests(folder)
        try:
            files = {kind: [(str(path), digests.of(path)) for path in found] for kind, found in find_files(self.paths).items()}
            told = {
                **{name: getattr(self, name) for name in _SWITCHES},
                "paths": [(str(path), path.is_dir()) for path in self.paths], "files": files,
                "cluster": [(str(path), digests.of(path)) for path in self.cluster],
                "keys": None if self.keys is None else digests.of(self.keys),
                "program": program(), "tshark": tshark(),
            }  # fmt: skip
        except (BundleError, OSError):
            return None
        digests.keep()
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def program() -> list[str]:
    """What hopline is here: its sources, and the libraries that make and read numbers."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for source in sorted(path for package, kinds in _SOURCES.items() for path in sources(package, kinds)):
        digest.update(f"{source.relative_to(root)}\n".encode() + source.read_bytes())
    return [digest.hexdigest(), platform.python_version(), version("numpy")]


def tshark() -> list[object]:
    """Which tshark dissects: an upgrade of its libraries puts a new program in its place, whatever that one contains."""
    program = find_tshark()
    if program is None:
        return []
    status = Path(program).stat()
    told = sorted((name, value) for name, value in os.environ.items() if name.startswith(("WIRESHARK_", "LD_LIBRARY_PATH")))
    return [program, status.st_size, status.st_mtime_ns, status.st_ctime_ns, told]
