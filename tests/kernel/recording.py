"""Captures and ledgers of both nodes, taken the way people take them, and what `hopline record` writes, as bundles."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .lab import Lab
from .services import NODES, cluster_objects

# bundle: the captures of each node, as (file name's middle part, tcpdump's options)
CAPTURES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "any": (("", ("-i", "any")),),
    "snap128": (("", ("-i", "any", "-s", "128")),),
    "ifaces": ((".eth0", ("-i", "eth0")), (".cni0", ("-p", "-i", "cni0"))),
    "eth0": ((".eth0", ("-i", "eth0")),),
}
LIVE = "live"  # the bundle that `hopline record` writes
_WAIT_SECONDS = 180  # of patience, with a machine that is busy
SETTLE_SECONDS = 1.2  # the kernel hands packets to tcpdump a block at a time, and one that is not full after a second
RECORD = (sys.executable, "-c", "from analysis.commands import main; main()", "record")
_DROPPED = re.compile(r"(\d+) packets? dropped by kernel")


class Tool:
    """A program that runs until it is told to stop."""

    def __init__(self, command: list[str], stdout: Path) -> None:
        self._command, self._errors = command, stdout.with_name(stdout.name + ".stderr")
        with stdout.open("wb") as out, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=out, stderr=errors)

    def wait_until(self, said: str) -> None:
        """Until it has said this."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while said not in self._errors.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(self._command)}: {self._errors.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        dropped = _DROPPED.search(self._errors.read_text())
        if dropped and int(dropped[1]):
            raise RuntimeError(f"tcpdump could not keep up, {dropped[0]}: nothing can be concluded from {self._errors}")


def bundle(root: Path, name: str) -> Path:
    """The folder of one of CAPTURES."""
    return root / name


@contextmanager
def recording(lab: Lab, root: Path, names: tuple[str, ...] = (*CAPTURES, LIVE)) -> Iterator[None]:
    """Record bundles `names` in folders below `root` while the block runs."""
    with ExitStack() as tools:
        begun: list[tuple[Tool, str]] = []  # and what each says once it is ready: all get ready side by side

        def begin(node: str, words: Sequence[str], output: str, ready: str = "") -> None:
            tool = Tool(lab.command(node, *words), logs / output)
            tools.callback(tool.stop)
            begun.append((tool, ready))

        for name in names:
            bundle(root, name).mkdir()
        logs = root / "logs"
        logs.mkdir()
        for node in NODES:
            begin(node, ("conntrack", "-E", "-b", "8388608", "-o", "timestamp,id"), f"{node}.conntrack-events.txt")
            if LIVE in names:
                begin(node, (*RECORD, "-o", str(bundle(root, LIVE)), "--node", node), f"{node}.record.log", "recording ")
            for name in names:
                for part, options in CAPTURES.get(name, ()):
                    file = bundle(root, name) / f"{node}{part}.pcap"
                    words = ("tcpdump", "-B", "65536", "-U", "-n", *options, "-w", str(file))
                    begin(node, words, f"{name}-{file.name}.log", "listening on")
        for tool, ready in begun:
            tool.wait_until(ready)
        time.sleep(0.2)
        yield
        time.sleep(SETTLE_SECONDS)
        for node in NODES:
            (logs / f"{node}.conntrack-end.txt").write_text(lab.run(node, "conntrack", "-L", "-o", "id"))
            (logs / f"{node}.links.txt").write_text(lab.run(node, "ip", "-d", "addr"))
    _share(logs, root, names)


def _share(logs: Path, root: Path, names: tuple[str, ...]) -> None:
    """Put ledgers, links and cluster metadata beside every bundle's captures."""
    for name in names:
        for node in NODES:
            for what in ("conntrack-events", "conntrack-end", "links") if name != LIVE else ():
                file = f"{node}.{what}.txt"
                (bundle(root, name) / file).write_bytes((logs / file).read_bytes())
        (bundle(root, name) / "cluster.json").write_text(json.dumps(cluster_objects()))
