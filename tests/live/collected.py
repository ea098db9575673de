"""A cluster whose nodes are folders of this machine, and `hopline collect` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cluster_server import ClusterServer, Container, agent_pod
from .server import ROOT

PATIENCE_SECONDS = 180.0  # of tests, with a machine that is busy
COLLECT = [sys.executable, "-c", "from analysis.commands import main; main()", "collect"]


def node_object(name: str, address: str = "172.30.0.11", system: str = "linux") -> dict[str, Any]:
    """A node."""
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": f"node-{name}", "labels": {"kubernetes.io/os": system}},
        "spec": {}, "status": {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]},
    }  # fmt: skip


@dataclass
class Cluster:
    """Nodes behind an API server. `store(node)` is what a node's agent keeps."""

    server: ClusterServer
    folder: Path
    kubeconfig: Path

    def add(self, node: str, prefix: list[str] | None = None, program: Path | None = None, **environment: str) -> None:
        """A node with an agent; `program` is its `hopline` (default: the stand-in)."""
        home = self.folder / "nodes" / node
        home.mkdir(parents=True)
        hopline = home / "hopline"
        if program is None:
            source = str(ROOT / "tests" / "live" / "standin.py")
            hopline.write_text(f"#!{sys.executable}\nimport runpy\nrunpy.run_path({source!r}, run_name='__main__')\n")
            hopline.chmod(0o755)
        else:
            hopline.symlink_to(program)
        path = f"{home}:{os.environ['PATH']}"
        given = {**os.environ, "PATH": path, "HOPLINE_STORE": str(self.store(node)), "NODE_NAME": node, **environment}
        self.server.put(node_object(node))
        self.server.put(agent_pod(node))
        self.server.containers[f"hopline-agent-{node}"] = Container(prefix or [], given)

    def store(self, node: str) -> Path:
        return self.folder / "nodes" / node / "store"

    def left(self, node: str) -> list[str]:
        """The recordings that are still on a node."""
        return sorted(path.name for path in self.store(node).iterdir()) if self.store(node).exists() else []

    def said(self, node: str) -> bytes:
        """What the recorder of a node has said so far."""
        return b"".join(path.read_bytes() for path in self.store(node).glob("*/progress"))

    def command(self, *options: str | Path) -> list[str]:
        return [*COLLECT, "--kubeconfig", str(self.kubeconfig), *map(str, options)]

    def collect(self, *options: str | Path, seconds: float = PATIENCE_SECONDS) -> Collected:
        """Collect, to the end."""
        done = subprocess.run(self.command(*options), cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
        return Collected(done.returncode, done.stderr)


@dataclass
class Collected:
    """How `hopline collect` ended."""

    code: int
    said: str


def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def opened(process: int) -> list[str]:
    """What a process has open, as the kernel names it; not what it closes while we look."""
    found = []
    for path in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            found.append(str(path.readlink()))
    return found


def account(bundle: Path) -> dict[str, Any]:
    """What collect says of each node."""
    told: dict[str, Any] = json.loads((bundle / "collection.json").read_text())
    return {node["node"]: node for node in told["nodes"]}
