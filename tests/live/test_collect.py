"""`hopline collect` against an API server that runs the agents' commands, with a recorder whose files are known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from probes.live.store import Store

from .cluster_server import agent_pod, cut_after
from .collected import PATIENCE_SECONDS, Cluster, account, node_object, until
from .server import ROOT, answer
from .standin import content

QUICK = ("--duration", "1s", "--start-in", "1s")


def expected(node: str) -> dict[str, bytes]:
    return {f"{number:06}.pcapng": content(node, number) for number in range(3)} | {f"{node}.empty.txt": b""}


def fetched(bundle: Path, node: str) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in (bundle / node).rglob("*") if path.is_file()}
    found.pop(f"{node}.asked.json", None)
    return found


def asked(bundle: Path, node: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((bundle / node / f"{node}.asked.json").read_text())
    return told


def test_all_nodes_record_together_and_arrive_whole(cluster: Cluster, tmp_path: Path) -> None:
    for node in ("node-a", "node-b.example"):
        cluster.add(node)
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--seed", "23", "--net", "10.0.0.0/8", "--port", "80", "--port", "443")
    assert done.code == 0, done.said
    bundle = tmp_path / "bundle"
    for node in ("node-a", "node-b.example"):
        assert fetched(bundle, node) == expected(node)
        assert cluster.left(node) == []
        told = account(bundle)[node]
        assert (told["complete"], told["clean"], told["code"], told["files"], told["problems"]) == (True, True, 0, 5, [])
        assert told["last"]["seen"] == told["last"]["written"] + told["last"]["dropped"] > 0
    assert asked(bundle, "node-a") == asked(bundle, "node-b.example")
    assert asked(bundle, "node-a")["rest"] == ["--net", "10.0.0.0/8", "--port", "80", "--port", "443", "--seed", "23"]
    assert {path.name for path in bundle.iterdir()} == {
        "node-a", "node-b.example", "cluster-start.json", "cluster-end.json", "watch.jsonl", "collection.json",
    }  # fmt: skip


def test_a_cut_stream_is_resumed_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a", STANDIN_BYTES="1000003")
    cuts = [cut_after(size) for size in (100_000, 1_200_000, 1)]
    cluster.server.exec_faults["hopline-agent-node-a", "send"].extend(cuts)
    cluster.server.exec_faults["hopline-agent-node-a", "files"].append(cut_after(100))
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK)
    assert done.code == 0, done.said
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "bundle" / "node-a").glob("*.pcapng")}
    assert sizes == {f"{number:06}.pcapng": 1000003 + number for number in range(3)}
    positions = [int(each.command[-1]) for each in cluster.server.execs if each.verb == "send"]
    assert positions[0] == 0 < positions[1] <= 100_000 < positions[2] == positions[3] <= 1_300_000
    assert account(tmp_path / "bundle")["node-a"]["complete"]


def test_a_byte_that_changed_on_the_way_is_noticed_and_the_file_sent_again(cluster: Cluster, tmp_path: Path) -> None:
    for node in ("once", "always"):
        cluster.add(node)
    flipped = [lambda piece: piece[:-1] + bytes([piece[-1] ^ 1])] * 23
    cluster.server.exec_faults["hopline-agent-once", "send"].extend(flipped[:2])
    cluster.server.exec_faults["hopline-agent-always", "send"].extend(flipped)
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK)
    assert done.code == 3
    assert fetched(tmp_path / "bundle", "once") == expected("once")
    assert set(fetched(tmp_path / "bundle", "always")) <= {"always.empty.txt"}
    told = account(tmp_path / "bundle")["always"]
    assert (told["complete"], told["clean"]) == (False, True)
    assert "arrived changed" in told["problems"][0]
    (last,) = (line for line in done.said.splitlines() if line.startswith("always: ") and "packets seen" in line)
    assert "NOTHING fetched" in last
    assert cluster.left("always") == []


def evil(piece: bytes) -> bytes:
    return piece.replace(b"evil/000000.pcapng", b"../../evil.pcapng")


def colliding(piece: bytes) -> bytes:
    return piece.replace(b'"collides.empty.txt"', b'"000001.pcapng"')


def test_one_nodes_trouble_is_its_own(cluster: Cluster, tmp_path: Path) -> None:
    for node in ("fine", "refuses", "deaf", "evil", "collides"):
        cluster.add(node)
    cluster.add("fails", STANDIN_EXIT="1")
    cluster.server.exec_faults["hopline-agent-deaf", "follow"].append(400)
    cluster.server.exec_faults["hopline-agent-refuses", "hello"].append(403)
    cluster.server.exec_faults["hopline-agent-evil", "files"].append(evil)
    cluster.server.exec_faults["hopline-agent-collides", "files"].append(colliding)
    cluster.server.put(node_object("alone"))
    cluster.server.put(node_object("other", system="windows"))
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--patience", "5s")
    assert done.code == 3, done.said
    assert fetched(tmp_path / "bundle", "fine") == expected("fine")
    told = account(tmp_path / "bundle")
    problems = {node: " ".join(each["problems"]) for node, each in told.items()}
    assert {node for node, each in told.items() if each["complete"]} == {"fine"}
    assert "`get` and `create` on pods/exec in the namespace hopline" in problems["refuses"]
    assert "the recorder ended with 1: nothing can be recorded here: no reason at all" in problems["fails"]
    assert "deaf: hopline agent follow: 400" in problems["deaf"].replace("hopline-agent-", "")
    assert [told[node]["files"] for node in ("fails", "deaf")] == [5, 5]  # what there is of a failure is fetched, too
    assert fetched(tmp_path / "bundle", "deaf") == expected("deaf")
    assert "'../../evil.pcapng'" in problems["evil"]
    assert list(tmp_path.rglob("evil.pcapng")) == list((tmp_path / "bundle" / "evil").rglob("*")) == []
    assert "two files would be" in problems["collides"]
    assert fetched(tmp_path / "bundle", "collides").items() <= expected("collides").items()
    assert "alone: no agent runs on this node" in done.said
    assert "other:" not in done.said
    assert [cluster.left(node) for node in told] == [[]] * 6


def test_an_api_server_that_is_away_meanwhile_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    bundle = tmp_path / "bundle"
    command = cluster.command("-o", bundle, "--duration", "4s", "--start-in", "1s")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: "follow" in cluster.server.verbs("hopline-agent-node-a"))
        cluster.server.go_away()
        time.sleep(2.0)
        cluster.server.away.clear()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert fetched(bundle, "node-a") == expected("node-a")
    assert cluster.server.verbs("hopline-agent-node-a").count("start") == 1
    assert cluster.server.verbs("hopline-agent-node-a").count("follow") >= 2
    assert account(bundle)["node-a"]["last"]["written"] % 23 == 0
    assert cluster.left("node-a") == []


def test_what_cannot_be_cleaned_up_is_said(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    command = cluster.command("-o", tmp_path / "bundle", *QUICK, "--patience", "1s")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: "follow" in cluster.server.verbs("hopline-agent-node-a"))
        cluster.server.go_away()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "node-a could not be cleaned up" in said.replace("node-a: ", "")
    told = account(tmp_path / "bundle")["node-a"]
    assert (told["complete"], told["clean"]) == (False, False)
    (left,) = cluster.left("node-a")
    assert left in said
    store = Store(cluster.store("node-a"))
    until(lambda: not store.running(left))
    assert store.code(left) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_ends_the_recording_and_keeps_it(number: signal.Signals, cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    command = cluster.command("-o", tmp_path / "bundle", "--duration", "10m", "--start-in", "0s")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: b"progress" in cluster.said("node-a"))
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert fetched(tmp_path / "bundle", "node-a") == expected("node-a")
    assert cluster.left("node-a") == []


def test_the_second_signal_fetches_nothing_and_cleans_up(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    released = threading.Event()

    def held(_: bytes) -> bytes:
        released.wait(PATIENCE_SECONDS)
        return b""

    cluster.server.exec_faults["hopline-agent-node-a", "stop"].append(held)
    command = cluster.command("-o", tmp_path / "bundle", "--duration", "10m", "--start-in", "0s")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: "follow" in cluster.server.verbs("hopline-agent-node-a"))
        process.send_signal(signal.SIGINT)
        until(lambda: "stop" in cluster.server.verbs("hopline-agent-node-a"))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("cleaning up" in line for line in process.stderr)
        released.set()
        said = process.stderr.read()
    assert process.returncode == 1, said
    assert not {"files", "send"} & set(cluster.server.verbs("hopline-agent-node-a"))
    assert cluster.left("node-a") == []


def test_the_third_signal_leaves_at_once(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    command = cluster.command("-o", tmp_path / "bundle", "--duration", "20s", "--start-in", "0s")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: "follow" in cluster.server.verbs("hopline-agent-node-a"))
        cluster.server.exec_faults["hopline-agent-node-a", "remove"].append(lambda _: time.sleep(30) or b"")
        for step in ("ending", "cleaning", "left"):
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            line = next(line for line in process.stderr if step in line)
            assert line.startswith("hopline: ")
        process.wait(PATIENCE_SECONDS)
    assert process.returncode == 130


def test_a_killed_collect_leaves_a_recording_that_ends_by_itself(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    command = cluster.command("-o", tmp_path / "bundle", "--duration", "2s", "--start-in", "0s")
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        until(lambda: "follow" in cluster.server.verbs("hopline-agent-node-a"))
        process.kill()
    store = Store(cluster.store("node-a"))
    (name,) = store.names()
    until(lambda: not store.running(name))
    assert store.code(name) == 0
    agent = [str(cluster.folder / "nodes" / "node-a" / "hopline"), "agent", "--keep", "60"]
    environment = cluster.server.containers["hopline-agent-node-a"].environment
    with subprocess.Popen(agent, env=environment, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(1.0)
        assert store.names() == [name]  # it may still be fetched
        process.terminate()
    os.utime(store.root / name / "exit", (time.time() - 61,) * 2)
    with subprocess.Popen(agent, env=environment, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: not store.names())
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert [(each["event"], each.get("recording")) for each in map(json.loads, said.splitlines())] == [("waiting", None), ("expired", name)]


def test_a_clock_that_is_off_is_told_and_its_node_begins_with_the_others(cluster: Cluster, tmp_path: Path) -> None:
    off_seconds = {"right": 0, "ahead": 61, "behind": -61}  # more than an answer takes on a machine that is busy
    for node, seconds in off_seconds.items():
        cluster.add(node, STANDIN_CLOCK=str(seconds * 10**9), STANDIN_LATE="1.5" if node == "right" else "0")
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--log", "json")
    assert done.code == 0, done.said
    said = [json.loads(line) for line in done.said.splitlines()]
    told = {each["node"]: (each["from_seconds"], each["to_seconds"]) for each in said if each["event"] == "clock"}
    assert set(told) == {"ahead", "behind"}
    starts = {node: asked(tmp_path / "bundle", node)["start_at"] for node in off_seconds}
    for node, (low, high) in told.items():
        assert low <= off_seconds[node] <= high
        assert starts[node] - starts["right"] == pytest.approx(off_seconds[node], abs=(high - low) / 2 + 0.001)
    assert account(tmp_path / "bundle")["right"]["late_seconds"] >= 1.5
    assert "right" in [each["node"] for each in said if each["event"] == "late"]


def test_a_folder_with_something_in_it_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").write_text("precious")
    done = cluster.collect("-o", tmp_path / "bundle")
    assert (done.code, "is not empty (name a new folder" in done.said) == (2, True)
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["mine"]
    assert cluster.server.requests == cluster.server.execs == []


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--service", "web"], 2, "NAMESPACE/NAME"),
        (["--service", "shop/nowhere"], 2, "no such Service"),
        (["--duration", "soon"], 2, "no duration"),
        (["--duration", "0s"], 2, "in no time"),
        (["--deploy", "--manifest", "/nowhere.yaml"], 2, "--manifest FILE"),
        (["--namespace", "elsewhere"], 1, "--deploy"),
        (["--node", "node-z"], 1, "node-z: no agent runs on this node"),
        (["--kubeconfig", "/nowhere"], 1, "--kubeconfig"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_started(
    options: list[str], code: int, word: str, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add("node-a")
    done = cluster.collect("-o", tmp_path / "bundle", *options)
    assert (done.code, word in done.said) == (code, True), done.said
    assert "Traceback" not in done.said
    assert cluster.server.execs == []


def test_a_cluster_whose_objects_are_denied_is_recorded_without_names(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    cluster.server.always["/api/v1/nodes"] = cluster.server.always["/api/v1/pods"] = answer(403)
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK)
    assert done.code == 0, done.said
    assert "nodes without an agent are not noticed" in done.said
    assert fetched(tmp_path / "bundle", "node-a") == expected("node-a")


def test_of_two_agents_on_a_node_the_newer_one_is_asked_and_a_dying_one_never(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    for name, created, more in (("older", "2026-11-22T12:00:00Z", {}), ("dying", "2026-11-24T12:00:00Z", {"deletionTimestamp": "now"})):
        other = agent_pod("node-a")
        other["metadata"] |= {"name": name, "uid": name, "creationTimestamp": created, **more}
        cluster.server.put(other)
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK)
    assert done.code == 0, done.said
    assert {each.pod for each in cluster.server.execs} == {"hopline-agent-node-a"}
