"""What sockets add to a trace: a real cluster of namespaces, kube-proxy's rules or a socket load balancer, and no ledger."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import jsonschema
import pytest
from kernel.lab import Lab, lab, missing
from kernel.recording import Tool
from kernel.rules import install
from kernel.services import NODES, PODS, cluster_objects
from kernel.traffic import Attempt, Traffic, servers

from analysis.contract import SCHEMA
from analysis.records import Recorder
from probes.live.bpf import BpfError, Program
from probes.live.clock import Clock
from probes.live.sockets import SocketProbe
from probes.live.sockets.order import root_cgroup
from tracer.bundle import read_bundle
from tracer.trace import trace

Record = dict[str, Any]
SO_NETNS_COOKIE = 71
CALLS = 23
VIP, VIP6, NODE_PORT = ("10.96.0.10", 80), ("fd00:10:96::10", 80), ("172.30.0.12", 30080)
BALANCER = Path(__file__).with_name("socket_lb.c")
# A pod on node-a's own network, whose cgroup is as systemd and containerd have it; its agent calls a Service and listens.
AGENT_UID, AGENT_ID = "0b9c7f6e-52d1-4c3a-9c1e-7a4f3d2b1c0d", "ab" * 32
AGENT_CGROUP = (
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{AGENT_UID.replace('-', '_')}.slice/cri-containerd-{AGENT_ID}.scope"
)
AGENT_PORT = 9100
COMMAND = Path("/proc/self/comm").read_text().strip()
AGENT = f"""
import socket, sys
server = socket.create_server(("172.30.0.11", {AGENT_PORT}))
print("ready", flush=True)
sys.stdin.readline()
for number in range({CALLS}):
    with socket.create_connection(("10.96.0.10", 80)) as calling:
        calling.sendall(b"h%06d 5\\n" % number)
        while calling.recv(100):
            pass
print("called", flush=True)
for _ in range({CALLS}):
    with server.accept()[0] as accepted:
        accepted.recv(100)
        accepted.sendall(b"metrics")
"""


def agent_pod() -> dict[str, Any]:
    metadata = {"name": "agent", "namespace": "shop", "uid": AGENT_UID, "creationTimestamp": "2024-11-01T08:00:00Z"}
    status = {
        "phase": "Running", "startTime": "2024-11-01T08:00:00Z", "podIPs": [{"ip": ip} for ip in NODES["node-a"].addresses],
        "containerStatuses": [{"name": "exporter", "containerID": f"containerd://{AGENT_ID}", "state": {"running": {}}}],
    }  # fmt: skip
    spec = {"nodeName": "node-a", "hostNetwork": True, "containers": [{"name": "exporter"}, {"name": "sidecar"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


@dataclass
class Traced:
    """What really happened, and what hopline says of it."""

    attempts: list[Attempt]
    records: list[Record]
    folder: Path

    def of(self, case: str) -> list[tuple[Attempt, Record]]:
        """The attempts of a case, each with the record that ends where its server was; all of them, once each."""
        made = {attempt.translated: attempt for attempt in self.attempts if attempt.case == case and attempt.translated}
        ends = {(end["src"], end["dst"]): record for record in self.records if (end := record["translated"])}
        assert len(made) == sum(attempt.case == case for attempt in self.attempts) >= CALLS
        return [(attempt, ends[translated]) for translated, attempt in made.items()]


def record(built: Lab, folder: Path, act: Callable[[Traffic], None], *, with_sockets: bool = True) -> Traced:
    """Run `act` under tcpdump on both nodes and the probe. One kernel is all machines here: each gets the lines of its own namespaces."""
    try:
        probe = SocketProbe(folder.with_suffix(".jsonl"), Clock())
    except (BpfError, OSError) as error:
        pytest.skip(str(error))
    folder.mkdir()
    with servers(built) as traffic, ExitStack() as tools:
        for node in NODES:
            command = built.command(node, "tcpdump", "-U", "-n", "-i", "any", "-w", str(folder / f"{node}.pcap"))
            capturing = Tool(command, folder.with_name(f"{node}.log"))
            tools.callback(capturing.stop)
            capturing.wait_until("listening on")
        done = threading.Event()
        draining = threading.Thread(target=drain, args=(probe, done))
        draining.start()
        try:
            act(traffic)
            time.sleep(1.2)
        finally:
            done.set()
            draining.join()
    probe.close()
    assert probe.counters()["dropped"] == 0
    homes = {cookie(built, place): PODS[place].node if place in PODS else place for place in (*NODES, *PODS)}
    about, *lines = folder.with_suffix(".jsonl").read_text().splitlines(keepends=True)
    for node in NODES if with_sockets else ():
        mine = [line for line in lines if homes.get(json.loads(line)["netns"]) == node]
        (folder / f"{node}.sockets.jsonl").write_text(about + "".join(mine))
    for node in NODES:
        (folder / f"{node}.links.txt").write_text(built.run(node, "ip", "-d", "addr"))
    objects = cluster_objects()
    objects["items"].append(agent_pod())
    (folder / "cluster.json").write_text(json.dumps(objects))
    records = list(Recorder(trace(read_bundle([folder]))))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert [error.message for each in records for error in validator.iter_errors(each)] == []
    return Traced(traffic.attempts, records, folder)


def drain(probe: SocketProbe, done: threading.Event) -> None:
    """As the recorder does."""
    while not done.wait(0.02):
        probe.drain()


def cookie(built: Lab, place: str) -> int:
    with built.socket(place, socket.AF_INET, socket.SOCK_DGRAM) as mine:
        return int.from_bytes(mine.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with lab("sockets", bridge_nf=True) as made:
        install(made, "iptables-nft")
        yield made


def calls_of_nodes(traffic: Traffic) -> None:
    for _ in range(CALLS):
        traffic.tcp("node to VIP", "node-a", VIP)
        traffic.tcp("node to VIP v6", "node-a", VIP6)
        traffic.udp("node to VIP udp", "node-b", (VIP[0], 53))
        traffic.tcp("node to nodePort", "node-a", NODE_PORT)
        traffic.tcp("pod to VIP", "front", VIP)
        traffic.tcp("node to pod", "node-a", (PODS["web-b"].addresses[0], 8080))


@pytest.fixture(scope="module")
def nodes(built: Lab, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return record(built, tmp_path_factory.mktemp("sockets") / "bundle", calls_of_nodes)


@pytest.mark.parametrize("case", ["node to VIP", "node to VIP v6", "node to VIP udp"])
def test_what_a_node_asked_for_is_known_without_a_ledger(nodes: Traced, case: str) -> None:
    """Its packets are translated before any interface: no capture has the Service's address."""
    for attempt, each in nodes.of(case):
        assert (each["original"]["src"], each["original"]["dst"]) == attempt.original
        assert (each["service"]["name"], each["service"]["via"], each["client"]["kind"]) == ("web", "ClusterIP", "node")
        assert "socket" in each["evidence"]
        assert [(step["node"], "dnat" in step["kinds"]) for step in each["translations"]] == [(attempt.place, True)]


def test_other_calls_are_as_before(nodes: Traced) -> None:
    for case, via in (("node to nodePort", "NodePort"), ("pod to VIP", "ClusterIP"), ("node to pod", "direct")):
        for attempt, each in nodes.of(case):
            assert (each["original"]["src"], each["original"]["dst"], each["service"]["via"]) == (*attempt.original, via)


def test_without_metadata_processes_are_named(nodes: Traced) -> None:
    records = Recorder(trace(read_bundle([nodes.folder], use_cluster=False)))
    called = [each for each in records if each["protocol"] == "tcp"]
    whose = {(each["client"]["kind"], each["client"]["process"], each["server"]["process"]) for each in called}
    assert len(called) == sum(attempt.proto == "tcp" for attempt in nodes.attempts)
    assert whose == {(None, COMMAND, COMMAND)}  # servers and clients are threads of this process


def test_without_sockets_it_stays_unknown(built: Lab, tmp_path: Path) -> None:
    """So that the tests above are about sockets."""

    def act(traffic: Traffic) -> None:
        for _ in range(CALLS):
            traffic.tcp("node to VIP", "node-a", VIP)

    found = record(built, tmp_path / "bundle", act, with_sockets=False)
    assert {each["original"] and each["original"]["dst"] for _, each in found.of("node to VIP")} == {None}


@contextmanager
def balancer(vip: tuple[str, int], backend: tuple[str, int]) -> Iterator[None]:
    """A socket load balancer on the root cgroup, as eBPF kube-proxy replacements attach theirs."""
    numbers = {
        "VIP": int.from_bytes(socket.inet_aton(vip[0]), sys.byteorder), "VIP_PORT": socket.htons(vip[1]),
        "BACKEND": int.from_bytes(socket.inet_aton(backend[0]), sys.byteorder), "BACKEND_PORT": socket.htons(backend[1]),
    }  # fmt: skip
    with Program(BALANCER, numbers) as program:
        program.attach_cgroup("balance_connect", "connect4", root_cgroup())
        program.attach_cgroup("balance_sendmsg", "sendmsg4", root_cgroup())
        yield


def test_a_service_whose_address_was_never_on_the_wire_is_named(built: Lab, tmp_path: Path) -> None:
    backend = PODS["web-b"].addresses[0]

    def act(traffic: Traffic) -> None:
        for _ in range(CALLS):
            traffic.tcp("pod", "front", VIP)
            traffic.tcp("node", "node-a", VIP)
            traffic.tcp("direct", "front", (backend, 8080))

    with balancer(VIP, (backend, 8080)):
        found = record(built, tmp_path / "bundle", act)
    for case, kind in (("pod", "pod"), ("node", "node")):
        for attempt, each in found.of(case):
            assert (each["original"]["src"], each["original"]["dst"]) == attempt.original
            assert (each["service"]["name"], each["service"]["via"], each["client"]["kind"]) == ("web", "ClusterIP", kind)
            assert (each["server"]["name"], "connect" in each["evidence"], each["ports"]["port"]) == ("web-b", True, 80)
            assert each["translations"][0] | {"rules": None} == {
                "node": "node-a", "before": f"{attempt.original[0]} > {attempt.original[1]}",
                "after": f"{attempt.original[0]} > {backend}:8080", "kinds": ["dnat"], "evidence": ["connect"], "rules": None,
            }  # fmt: skip
            assert {hop["dst"] for hop in each["hops"] if hop["path"] == "request"} == {f"{backend}:8080"}
    for attempt, each in found.of("direct"):
        assert ((each["original"]["src"], each["original"]["dst"]), each["service"]["via"]) == (attempt.original, "direct")


@contextmanager
def agent(built: Lab) -> Iterator[Popen[str]]:
    """AGENT on node-a, in the cgroup of its container."""
    root = root_cgroup()
    folder = root / AGENT_CGROUP
    folder.mkdir(parents=True)
    words = ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(folder), *built.command("node-a", sys.executable, "-c", AGENT)]
    running = Popen(words, stdin=PIPE, stdout=PIPE, text=True)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
    finally:
        running.communicate()
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def test_a_pod_on_its_nodes_network_is_told_from_its_node(built: Lab, tmp_path: Path) -> None:
    def act(traffic: Traffic) -> None:
        for _ in range(CALLS):
            traffic.tcp("node", "node-a", VIP)
        with agent(built) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write("call\n")
            running.stdin.flush()
            assert running.stdout.readline() == "called\n"
            for _ in range(CALLS):
                with built.socket("front", socket.AF_INET, socket.SOCK_STREAM) as scraping:
                    scraping.connect((NODES["node-a"].addresses[0], AGENT_PORT))
                    scraping.sendall(b"GET")
                    assert scraping.recv(100) == b"metrics"

    found = record(built, tmp_path / "bundle", act)
    whose = {"kind": "pod", "namespace": "shop", "name": "agent", "node": "node-a", "container": "exporter"}
    called = [each for each in found.records if each["client"] and each["client"]["name"] == "agent"]
    scraped = [each for each in found.records if each["original"] and each["original"]["dst"].endswith(f":{AGENT_PORT}")]
    assert (len(called), len(scraped)) == (CALLS, CALLS)
    for each in called:
        assert (each["client"] | whose, each["service"]["name"]) == (each["client"], "web")
        assert each["client"]["process"].startswith("python")
    for each in scraped:
        assert (each["server"] | whose, each["client"]["name"], "socket" in each["evidence"]) == (each["server"], "front", True)
        assert each["server"]["process"].startswith("python")  # of the one that listens
    assert {each["client"]["kind"] for _, each in found.of("node")} == {"node"}
