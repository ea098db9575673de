"""Lines of sockets, and which connections they belong to; cgroups of containers as kubelets and runtimes name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import SAMPLES, traced_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.contract import SCHEMA
from analysis.records import Recorder
from probes.schema import Table
from probes.sockets import EVENTS, SOCKETS, read_sockets, socket_lines
from tracer.bundle import read_bundle
from tracer.chains import Translation
from tracer.cluster import Owner, Timeline
from tracer.cluster.containers import container_of
from tracer.evidence import CONNECT, SOCKET
from tracer.socket_owners import said_of
from tracer.sockets import SocketLookup, SocketTable, gather, with_rewrite
from tracer.trace import trace

S = 1_000_000_000
UID, STATIC, ID = "0b9c7f6e-52d1-4c3a-9c1e-7a4f3d2b1c0d", "93a5b1d65fd0c2d0d7ec7a4b3ad0f1c2", "0123456789abcdef" * 4
UNDER = UID.replace("-", "_")

# Paths as /proc/PID/cgroup has them on nodes of these kinds: (path, pod uid, container id).
PATHS: tuple[tuple[str, str, str | None, str | None], ...] = (
    ("containerd", f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDER}.slice/cri-containerd-{ID}.scope", UID, ID),
    ("guaranteed", f"/kubepods.slice/kubepods-pod{UNDER}.slice/cri-containerd-{ID}.scope", UID, ID),
    ("cgroup of its own inside", f"/kubepods.slice/kubepods-pod{UNDER}.slice/cri-containerd-{ID}.scope/init.scope", UID, ID),
    ("CRI-O", f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDER}.slice/crio-{ID}.scope", UID, ID),
    ("CRI-O with crun", f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-{ID}.scope/container", UID, ID),
    ("CRI-O's monitor", f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-conmon-{ID}.scope", UID, None),
    ("cri-dockerd", f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDER}.slice/docker-{ID}.scope", UID, ID),
    ("cgroupfs", f"/kubepods/burstable/pod{UID}/{ID}", UID, ID),
    ("cgroupfs, guaranteed", f"/kubepods/pod{UID}/{ID}", UID, ID),
    ("cgroupfs, CRI-O", f"/kubepods/besteffort/pod{UID}/crio-{ID}", UID, ID),
    ("the drivers differ", f"/system.slice/containerd.service/kubepods-burstable-pod{UNDER}.slice:cri-containerd:{ID}", UID, ID),
    (
        "kind",
        f"/system.slice/docker-{'f' * 64}.scope/kubelet.slice/kubelet-kubepods-pod{UNDER}.slice/cri-containerd-{ID}.scope",
        UID, ID,
    ),
    ("a static pod", f"/kubepods/burstable/pod{STATIC}/{ID}", STATIC, ID),
    ("a pod's own", f"/kubepods.slice/kubepods-pod{UNDER}.slice", UID, None),
    ("docker alone", f"/system.slice/docker-{ID}.scope", None, None),
    ("a service", "/system.slice/kubelet.service", None, None),
    ("the root", "/", None, None),
    ("what only looks like it", f"/user.slice/tripod{UID}/{ID}", None, None),
)  # fmt: skip


@pytest.mark.parametrize(("path", "uid", "container"), [case[1:] for case in PATHS], ids=[case[0] for case in PATHS])
def test_a_path_tells_pod_and_container(path: str, uid: str | None, container: str | None) -> None:
    assert container_of(path) == (uid, container)


def pod(uid: str, statuses: list[dict[str, Any]], **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": uid, **metadata},
        "spec": {"nodeName": "node-a"}, "status": {"phase": "Running", "containerStatuses": statuses},
    }  # fmt: skip


FOUND: tuple[tuple[str, dict[str, Any], str, str | None, bool], ...] = (
    ("by its container", pod(UID, [{"name": "app", "containerID": f"containerd://{ID}"}]), f"/kubepods/pod{UID}/{ID}", "app", True),
    ("restarted since", pod(UID, [{"name": "app", "containerID": "containerd://x", "lastState": {"terminated": {"containerID": f"cri-o://{ID}"}}}]),
     f"/kubepods/pod{UID}/{ID}", "app", True),
    ("by its uid", pod(UID, []), f"/kubepods/pod{UID}/{ID}", None, True),
    ("a static pod", pod("mirror", [], annotations={"kubernetes.io/config.hash": STATIC}), f"/kubepods/pod{STATIC}/{ID}", None, True),
    ("another pod", pod(UID.replace("0b9c", "1b9c"), []), f"/kubepods/pod{UID}/{ID}", None, False),
)  # fmt: skip


@pytest.mark.parametrize(("item", "path", "container", "known"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_the_pod_of_a_cgroup(item: dict[str, Any], path: str, container: str | None, known: bool) -> None:
    found = Timeline.of([item]).pod_of_cgroup(path)
    assert found == (Owner("pod", "p", "n", "node-a", container, uid=item["metadata"]["uid"]) if known else None)


ADDRESS = st.ip_addresses().map(str).filter(lambda address: "::ffff:" not in address)  # those come out as IPv4
PORT, BYTE = st.integers(1, 65535), st.integers(0, 255)


@st.composite
def sockets(draw: st.DrawFn) -> list[dict[str, Any]]:
    def end() -> str:
        address = draw(ADDRESS)
        return f"[{address}]:{draw(PORT)}" if ":" in address else f"{address}:{draw(PORT)}"

    def one() -> dict[str, Any]:
        number, text = st.none() | st.integers(1, 2**32 - 1), st.none() | st.text(min_size=1, max_size=9)
        return {
            "time_ns": draw(st.integers(0, 2**62)), "event": draw(st.sampled_from(sorted(EVENTS.values()))), "proto": draw(BYTE),
            "local": end(), "remote": end(), "asked": (draw(st.booleans()) and end()) or None,
            "wire": {"local": end(), "remote": end()} if draw(st.booleans()) else None, "socket": draw(st.integers(0, 2**64 - 1)),
            "netns": draw(number), "process": draw(number), "thread": draw(number), "command": draw(text), "cgroup": draw(text),
        }  # fmt: skip

    return [one() for _ in range(draw(st.integers(0, 5)))]


@settings(deadline=None)
@given(sockets())
def test_what_is_written_is_read_again(entries: list[dict[str, Any]]) -> None:
    found, problems = read_sockets("".join(f"{json.dumps(entry)}\n" for entry in entries).encode(), "node-a.sockets.jsonl")
    lines = list(socket_lines(found))
    again = read_sockets("".join(lines).encode(), "node-a.sockets.jsonl")[0]
    assert problems == []
    assert [json.loads(line) for line in lines] == entries
    assert again.owners == found.owners
    assert all(np.array_equal(found.table[name], again.table[name]) for name in found.table)


LINE = '{"time_ns": 7, "event": "connect", "proto": 6, "local": "10.0.0.1:1", "remote": "10.0.0.2:2", "asked": null, "socket": 3}\n'
DAMAGED: tuple[tuple[str, str, int, list[str]], ...] = (
    ("nothing", "", 0, []),
    ("only what must be there", LINE, 1, []),
    ("other lines", '{"event": "attached", "first": {"connect4": true, "connect6": true}}\n{"event": "new kind"}\n' + LINE, 1, []),
    ("cut", LINE + LINE[:40], 1, ["the last line has no end and is left out"]),
    ("no JSON", "hello\n" + LINE, 1, ["1 line is not sockets in JSON; the first is line 1"]),
    ("no address", LINE.replace("10.0.0.2:2", "ten:2") + LINE, 1, ["1 line is not sockets in JSON; the first is line 1"]),
    ("a port too large", LINE.replace(":2\"", ":70000\"") + LINE, 1, ["1 line is not sockets in JSON; the first is line 1"]),
    ("a time that is none", LINE.replace("7", "true") + "\n", 0, ["1 line is not sockets in JSON; the first is line 1"]),
    ("a list", "[1]\n\"x\"\n" + LINE, 1, ["2 lines are not sockets in JSON; the first is line 1"]),
)  # fmt: skip


@pytest.mark.parametrize(("content", "rows", "said"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
def test_what_cannot_be_read_is_said(content: str, rows: int, said: list[str]) -> None:
    found, problems = read_sockets(content.encode(), "node-a.sockets.jsonl")
    assert (len(found.table["cookie"]), [problem.what for problem in problems]) == (rows, said)


@pytest.mark.parametrize(
    ("first", "told"),
    [([], False), ([{"connect4": True, "connect6": True}], True), ([{"connect4": True}], False),
     ([{"connect4": True, "connect6": True}, {"connect4": False, "connect6": True}], False)],
)  # fmt: skip
def test_only_who_ran_first_knows_what_was_asked(first: list[dict[str, bool]], told: bool) -> None:
    lines = "".join(json.dumps({"event": "attached", "first": each, "unavailable": {}}) + "\n" for each in first)
    assert read_sockets(lines.encode(), "")[0].first is told


NODE, WIRE, ASKED, OTHER = 4, 10, 12, 14  # tuples have even codes here, their reverses the odd ones behind
TCP, UDP = 6, 17


def lookup(*rows: tuple[str, int, float, int, int, int, int]) -> SocketLookup:
    """Sockets by (event, protocol, second, own tuple, asked, wire, network namespace)."""
    event, proto, second, own, asked, wire, netns = zip(*rows, strict=True)
    numbers = {name: number for number, name in EVENTS.items()}
    table: Table = {column.name: np.zeros(len(rows), column.dtype) for column in SOCKETS.columns}
    table |= {
        "event": np.array([numbers[each] for each in event], "u1"), "proto": np.array(proto, "u1"),
        "time_ns": (np.array(second) * S).astype("i8"), "netns": np.array(netns, "u8"),
    }  # fmt: skip
    found = SocketTable(SOCKETS.check(table), np.full(len(rows), NODE, "i4"), np.ones(len(rows), bool))
    found.own, found.asked, found.wire = (np.array(codes, "i4") for codes in (own, asked, wire))
    return SocketLookup(found, np.arange(20) ^ 1)


OPENED = ("connect", TCP, 5.0, WIRE, ASKED, WIRE, 1)
CLIENTS: tuple[tuple[str, list[tuple[str, int, float, int, int, int, int]], float, float, int], ...] = (
    ("opened just before", [OPENED], 5.001, 6, 0),
    ("long before: another's", [OPENED], 15, 16, -1),
    ("after: another's", [OPENED], 4, 4.9, -1),
    ("the port used again, the first", [OPENED, ("connect", TCP, 7.0, WIRE, WIRE, WIRE, 1)], 5.001, 6.9, 0),
    ("the port used again, the second", [OPENED, ("connect", TCP, 7.0, WIRE, WIRE, WIRE, 1)], 7.001, 8, 1),
    ("there before, told with its next packet", [("sent", TCP, 5.0, WIRE, WIRE, WIRE, 1)], 1, 9, 0),
    ("another tuple", [("connect", TCP, 5.0, OTHER, OTHER, OTHER, 1)], 5.001, 6, -1),
    ("the server's socket", [("accept", TCP, 5.0, WIRE, WIRE, WIRE, 1)], 5, 6, -1),
    ("two namespaces with one address", [OPENED, ("connect", TCP, 5.5, WIRE, WIRE, WIRE, 2)], 5.001, 5.4, -1),
    ("a namespace that was not told", [OPENED, ("sent", TCP, 5.001, WIRE, WIRE, WIRE, 0)], 5.001, 6, 1),
    ("datagrams, told of once", [("sent", UDP, 5.0, WIRE, ASKED, WIRE, 1)], 500, 501, 0),
)  # fmt: skip


@pytest.mark.parametrize(("rows", "first", "last", "found"), [case[1:] for case in CLIENTS], ids=[case[0] for case in CLIENTS])
def test_the_socket_of_a_client(rows: list[tuple[str, int, float, int, int, int, int]], first: float, last: float, found: int) -> None:
    assert lookup(*rows).client({(NODE, WIRE): (int(first * S), int(last * S))}) == found
    assert lookup(*rows).client({(NODE + 1, WIRE): (int(first * S), int(last * S))}) == -1


def test_the_socket_of_a_server() -> None:
    accepted = ("accept", TCP, 5.01, WIRE + 1, WIRE + 1, WIRE + 1, 1)
    assert lookup(OPENED, accepted).server({(NODE, WIRE): (5 * S, 6 * S)}) == 1
    assert lookup(OPENED).server({(NODE, WIRE): (5 * S, 6 * S)}) == -1
    assert lookup(accepted).server({(NODE, WIRE): (1 * S, 2 * S)}) == -1


TOLD: tuple[tuple[str, tuple[int, int, int], list[Translation], list[Translation]], ...] = (
    ("as asked", (WIRE, WIRE, WIRE), [], []),
    ("a load balancer in the socket", (WIRE, ASKED, WIRE), [], [Translation(NODE, ASKED, WIRE, CONNECT)]),
    ("NAT on the way out", (ASKED, ASKED, WIRE), [], [Translation(NODE, ASKED, WIRE, SOCKET)]),
    ("both", (OTHER, ASKED, WIRE), [], [Translation(NODE, ASKED, WIRE, CONNECT | SOCKET)]),
    ("known already", (ASKED, ASKED, WIRE), [Translation(NODE, ASKED, WIRE, 32)], [Translation(NODE, ASKED, WIRE, 32 | SOCKET)]),
    ("known otherwise", (ASKED, ASKED, WIRE), [Translation(NODE, OTHER, WIRE, 32)], [Translation(NODE, OTHER, WIRE, 32)]),
)  # fmt: skip


@pytest.mark.parametrize(("codes", "known", "expected"), [case[1:] for case in TOLD], ids=[case[0] for case in TOLD])
def test_what_a_socket_tells_of_translations(codes: tuple[int, int, int], known: list[Translation], expected: list[Translation]) -> None:
    found = lookup(("connect", TCP, 5.0, *codes, 1))
    spans = {(NODE, WIRE): (5 * S, 6 * S)}
    rewrite = found.rewrite(found.client(spans), spans)
    assert (known if rewrite is None else with_rewrite(known, rewrite)) == expected


LISTENS = {"event": "listen", "remote": None, "netns": 1, "command": "nginx", "cgroup": "/pods/a"}
ACCEPTED: tuple[tuple[str, dict[str, Any], list[dict[str, Any]], tuple[str | None, str | None]], ...] = (
    ("who listens", {"netns": 1, "cgroup": "/pods/a"}, [LISTENS], ("/pods/a", "nginx")),
    ("v1: its cgroup as well", {"netns": 1, "cgroup": "/"}, [LISTENS], ("/pods/a", "nginx")),
    ("the namespace was not told", {"netns": None, "cgroup": "/pods/a"}, [LISTENS], ("/pods/a", "nginx")),
    ("nor the cgroup", {"netns": None, "cgroup": "/"}, [LISTENS], ("/", None)),
    ("another namespace", {"netns": 2, "cgroup": "/pods/a"}, [LISTENS], ("/pods/a", None)),
    ("two share a port", {"netns": 1, "cgroup": "/pods/a"}, [LISTENS, LISTENS | {"command": "envoy"}], ("/pods/a", None)),
    ("it listens twice", {"netns": 1, "cgroup": "/pods/a"}, [LISTENS, LISTENS | {"local": "[::]:80"}], ("/pods/a", "nginx")),
    ("it connects itself", {"event": "connect", "netns": 1, "cgroup": "/pods/b", "command": "curl"}, [LISTENS], ("/pods/b", "curl")),
)  # fmt: skip


@pytest.mark.parametrize(("row", "listening", "said"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
def test_an_accepted_socket_is_of_who_listens(
    row: dict[str, Any], listening: list[dict[str, Any]], said: tuple[str | None, str | None]
) -> None:
    common = {"time_ns": 7, "event": "accept", "proto": 6, "local": "10.0.0.1:80", "remote": "10.0.0.2:4000", "asked": None, "socket": 3}
    lines = "".join(json.dumps(common | each) + "\n" for each in (*listening, row))
    found = gather({"node-a": read_sockets(lines.encode(), "")[0]}, ["node-a"])
    assert said_of(found, 0) == said


def test_one_socket_changes_one_record(tmp_path: Path) -> None:
    """Beside a recorded bundle: what was asked for names Service, original and translation; every other record stays as it is."""
    sample = SAMPLES / "iptables"
    before = list(Recorder(traced_sample(sample)))
    changed = next(
        each for each in before if each["protocol"] == "tcp" and each["service"] and each["service"]["via"] == "direct"
        and each["client"]["kind"] == each["server"]["kind"] == "pod"
    )  # fmt: skip
    service = next(each["service"] for each in before if each["service"] and each["service"]["via"] == "ClusterIP")
    asked = next(each["original"]["dst"] for each in before if each["service"] == service)
    line = {
        "time_ns": changed["start_ns"] - 1000, "event": "connect", "proto": 6, "local": changed["original"]["src"],
        "remote": changed["original"]["dst"], "asked": asked, "wire": None, "socket": 7, "netns": 1, "process": 7, "thread": 7,
        "command": "app", "cgroup": "/system.slice/app.service",
    }  # fmt: skip
    file = tmp_path / f"{changed['hops'][0]['node']}.sockets.jsonl"
    file.write_text(json.dumps(line) + "\n")
    after = list(Recorder(trace(read_bundle([sample, file]))))
    assert [each for each in after if each["id"] != changed["id"]] == [each for each in before if each["id"] != changed["id"]]
    told = next(each for each in after if each["id"] == changed["id"])
    jsonschema.validate(told, SCHEMA)
    assert (told["service"], told["original"]["dst"], told["translated"]) == (service, asked, changed["translated"])
    assert told["client"] == changed["client"] | {"process": "app"}
    assert {"connect", "socket"} <= set(told["evidence"])
    assert [step["evidence"] for step in told["translations"]] == [["connect"]]
    told["client"]["process"] = None
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(told)
