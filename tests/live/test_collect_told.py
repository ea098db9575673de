"""What `hopline collect` tells while it runs: on a terminal, as JSON, of endpoints that come and disks that fill."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .collected import PATIENCE_SECONDS, Cluster, account, until
from .server import ROOT
from .test_collect import QUICK, asked

SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "service-web"},
    "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
             "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
}  # fmt: skip


def endpoint_slice(*addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-x", "namespace": "shop", "uid": "slice-web", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }  # fmt: skip


def test_endpoints_that_come_meanwhile_are_told(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    cluster.server.put(SERVICE)
    cluster.server.put(endpoint_slice("10.244.0.2"))
    command = cluster.command("-o", tmp_path / "bundle", "--duration", "10m", "--start-in", "0s", "--service", "shop/web")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: "follow" in cluster.server.verbs("hopline-agent-node-a"))
        cluster.server.put(endpoint_slice("10.244.0.2", "10.244.0.3"))
        cluster.server.put(endpoint_slice("10.244.0.2"))  # gone again before the end
        until(lambda: (tmp_path / "bundle" / "watch.jsonl").read_text().count('"MODIFIED"') == 2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert asked(tmp_path / "bundle", "node-a")["rest"] == [
        "--endpoint", "10.244.0.2:8080", "--endpoint", "10.96.0.10:80", "--endpoint", "[fd00:10:96::a]:80",
    ]  # fmt: skip
    (told,) = re.findall(r"warning: the Service got the endpoint (\S+) (\S+) s after the beginning", said)
    assert told[0] == "10.244.0.3:8080"
    assert 0 <= float(told[1]) < 60


def test_json_has_a_line_for_every_event_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    cluster.add("node-b", STANDIN_EXIT="1")
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--log", "json")
    assert done.code == 3
    said = [json.loads(line) for line in done.said.splitlines()]
    assert all(each["level"] == "info" and each["timestamp"] for each in said)
    of_a = [each["event"] for each in said if each.get("node") == "node-a" and each["event"] != "late"]  # as a busy machine may be
    assert [event for event, before in zip(of_a, ["", *of_a], strict=False) if event != before] == [
        "started", "recording", "progress", "done", "fetching", "fetched", "clean", "outcome",
    ]  # fmt: skip
    assert {each["event"] for each in said if each.get("node") == "node-b"} >= {"failed", "fetched", "clean"}
    outcomes = {each["node"]: each["complete"] for each in said if each["event"] == "outcome"}
    assert outcomes == {"node-a": True, "node-b": False}


def test_a_terminal_shows_a_bar_for_each_node(cluster: Cluster, tmp_path: Path) -> None:
    for node in ("node-a", "node-b"):
        cluster.add(node)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    command = cluster.command("-o", tmp_path / "bundle", "--duration", "3s", "--start-in", "1s")
    with subprocess.Popen(command, cwd=ROOT, stderr=theirs, stdout=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 1 << 16):
                shown += piece
        except OSError:  # EIO: the other end is closed
            pass
        assert process.wait(PATIENCE_SECONDS) == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    for node in ("node-a", "node-b"):
        assert re.search(rf"{node} \S*━\S* +\d+ packets written, 1 dropped", text), text
        assert f"{node}: 5 files, 0.3 MB" in text
    assert text.rstrip().splitlines()[-1].startswith("hopline: 10 files, 0.6 MB in ")


def test_what_nodes_say_does_not_steer_the_terminal(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    hostile = (
        b'{"event": "gap", "told": "\\u001b[2J"}\n{"event": "share", "share": "x"}\n{"event": ["progress"], "seen": {}}\n\x1b[2J\n[]\n{"a'
    )
    once = iter([hostile + b"\n"])
    cluster.server.exec_faults["hopline-agent-node-a", "follow"].append(lambda piece: next(once, b"") + piece)
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK)
    assert done.code == 0
    assert "\x1b" not in done.said
    assert "node-a: ·[2J" in done.said
    assert "Traceback" not in done.said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small disk can be had here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_here_is_told_and_the_node_left_clean(cluster: Cluster, small_disk: Path) -> None:
    cluster.add("small", STANDIN_BYTES="10007")
    cluster.add("large", STANDIN_BYTES="1000003")
    done = cluster.collect("-o", small_disk / "bundle", *QUICK)
    assert done.code == 3, done.said
    told = account(small_disk / "bundle")
    assert (told["small"]["complete"], told["large"]["complete"]) == (True, False)
    assert re.search(r"3,000,\d\d\d bytes were recorded, \S+ are free in .* \(make room, or record less", told["large"]["problems"][0])
    assert cluster.left("large") == []


def test_a_large_recording_needs_little_memory(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a", STANDIN_BYTES=str(64 << 20))
    with subprocess.Popen(cluster.command("-o", tmp_path / "bundle", *QUICK), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        most, status = 0, Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            most = max(most, int(found[1]) << 10 if found else 0)
            time.sleep(0.05)
    assert process.returncode == 0
    assert account(tmp_path / "bundle")["node-a"]["size_bytes"] > 3 * (64 << 20)
    assert 0 < most < 150 << 20
