"""`hopline record` on a road through real NAT: what is chosen, what is kept, what is said of it."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.records import Recorder
from probes.live.attach import tcx_programs
from probes.live.namespaces import inside
from probes.live.packets.tc import EGRESS, INGRESS
from tracer.bundle import read_bundle
from tracer.trace import trace

from .collected import opened
from .road import CLIENT, PORT, RECORD, SECONDS, SERVER, TARGET, VIP, Recorded, Road, holds, recorders

CONNECTIONS = 23


@pytest.fixture
def record(way: Road, tmp_path: Path) -> Iterator[Callable[..., Recorded]]:
    with recorders(way, tmp_path) as begin:
        yield begin


def test_a_recording_is_a_bundle_that_tells_every_connection(way: Road, record: Callable[..., Recorded]) -> None:
    running = record()
    ports = way.ask(CONNECTIONS)
    account = running.end()
    assert running.process.returncode == 0
    assert holds(account)
    assert (account["complete"], account["packets"]["all"]["dropped"]) == (True, 0)
    records = list(Recorder(trace(read_bundle([running.folder]))))
    found = {record["original"]["src"]: record for record in records if record["original"]}
    assert found.keys() == {f"{CLIENT}:{port}" for port in ports}
    for each in found.values():
        assert (each["original"]["dst"], each["translated"]["dst"]) == (f"{VIP}:{PORT}", f"{SERVER}:{TARGET}")
        assert {"isn", "conntrack"} <= set(each["evidence"])


def test_a_filter_follows_nat(way: Road, record: Callable[..., Recorded]) -> None:
    """Endpoints of a Service, before NAT and after it; nothing of another."""
    running = record("--endpoint", f"{VIP}:{PORT}", "--endpoint", f"{SERVER}:{TARGET}")
    way.ask(3)
    way.send([b"not asked for"])
    account = running.end()
    assert holds(account)
    assert account["packets"]["selection"]["filtered"] >= 4
    tuples = running.tuples()
    assert set(tuples) == {"to-client", "to-server"}
    assert {PORT in each or TARGET in each for seen in tuples.values() for each in seen} == {True}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--net", "10.96.0.0/16"), {"to-client"}),
        (("--net", f"{SERVER}/32"), {"to-server"}),
        (("--port", "5353"), {"to-server"}),
        (("--port", "53", "--net", "10.96.0.0/16"), {"to-client"}),
        (("--port", "53", "--net", f"{SERVER}/32"), set()),
    ],
)
def test_conditions_of_one_kind_are_alternatives_and_of_two_kinds_must_both_hold(
    way: Road, record: Callable[..., Recorded], options: tuple[str, ...], expected: set[str]
) -> None:
    running = record(*options, "--probes", "packets")
    way.send([b"one", b"two"])
    running.end()
    assert set(running.tuples()) == expected


def test_a_sample_has_whole_connections_on_both_sides_of_nat_and_the_same_again(way: Road, record: Callable[..., Recorded]) -> None:
    """Two recorders, one in the router and one in the server's namespace, agree without knowing of one another."""
    here, there = (
        record("--sample", "0.5", "--probes", "packets"),
        record("--sample", "0.5", "--probes", "packets", name="there", place="server"),
    )
    other = record("--sample", "0.5", "--seed", "7", "--probes", "packets", name="other")
    ports = set(way.ask(101))
    ports |= set(way.send([b"question %d" % number for number in range(101)], 53))
    accounts = [each.end() for each in (here, there, other)]
    assert all(map(holds, accounts))
    client_side = {each for each in here.tuples()["to-client"] if each[0] == CLIENT}
    server_side = {each for each in here.tuples()["to-server"] if each[2] == SERVER}
    assert 60 < len(client_side) < 142, "about half of 202"
    assert {port for _, port, _, _ in client_side} <= ports
    assert len(server_side) == len(client_side)
    assert {each for each in there.tuples()["eth0"] if each[2] == SERVER} == server_side
    assert {each for each in other.tuples()["to-client"] if each[0] == CLIENT} != client_side


def test_headers_only_keeps_no_payload(way: Road, record: Callable[..., Recorded]) -> None:
    running = record("--headers-only", "--probes", "packets")
    secret = b"nobody's business " * 9
    way.send([secret])
    running.end()
    files = list((running.folder / "n").iterdir())
    assert files
    assert all(b"nobody" not in path.read_bytes() for path in files)
    (capture,) = running.captures()
    assert set(capture.observations["payload_bytes"].tolist()) == {len(secret)}


def test_payload_is_cut_where_it_was_asked(way: Road, record: Callable[..., Recorded]) -> None:
    running = record("--payload-bytes", "7", "--probes", "packets")
    way.send([b"0123456789"])
    running.end()
    (capture,) = running.captures()
    assert set(capture.observations["captured_bytes"].tolist()) == {14 + 20 + 8 + 7}
    assert set(capture.observations["wire_bytes"].tolist()) == {14 + 20 + 8 + 10}


def test_interfaces_that_come_and_go_while_recording(way: Road, record: Callable[..., Recorded]) -> None:
    running = record("--probes", "packets")
    way.ask(1)
    way.run("router", "ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1")
    for name in ("late0", "late1"):
        way.run("router", "ip", "link", "set", name, "up")
    way.run("router", "ip", "addr", "add", "10.9.9.1/24", "dev", "late0")
    way.run("router", "ip", "neigh", "add", "10.9.9.2", "lladdr", "02:00:00:00:00:02", "dev", "late0")  # to be sent to
    subprocess.run(way.command("router", "ping", "-c", "3", "-i", "0.1", "-W", "1", "10.9.9.2"), check=False, capture_output=True)
    way.run("router", "ip", "link", "del", "late0")
    way.ask(1)
    account = running.end()
    assert holds(account)
    names = {point.interface for capture in running.captures() for point in capture.points}
    assert {"late0", "late1"} <= names
    assert all(not capture.problems for capture in running.captures())


def test_namespaces_that_come_and_go_are_recorded_and_let_go(way: Road, record: Callable[..., Recorded]) -> None:
    running = record("--netns", f"/run/netns/{way.prefix}-pod-*", "--probes", "packets")
    pod = f"{way.prefix}-pod-1"
    subprocess.run(["ip", "netns", "add", pod], check=True)
    subprocess.run(["ip", "-n", pod, "link", "set", "lo", "up"], check=True)
    running.until(lambda _: len(json.loads((running.folder / "n.recording.json").read_text())["probes"]) == 2)
    subprocess.run(["ip", "netns", "exec", pod, "ping", "-c", "3", "-i", "0.1", "127.0.0.1"], check=True, capture_output=True)
    inode = Path(f"/run/netns/{pod}").stat().st_ino
    subprocess.run(["ip", "netns", "del", pod], check=True)
    running.until(lambda lines: "packets in " + pod not in _namespaces_held(running.process.pid, inode))
    account = running.end()
    assert holds(account)
    assert f"{pod}/lo" in running.tuples()


def _namespaces_held(process: int, inode: int) -> list[str]:
    return [each for each in opened(process) if str(inode) in each]


def test_a_limit_sheds_connections_and_says_when(way: Road, record: Callable[..., Recorded]) -> None:
    running = record("--max-memory", "1M", "--probes", "packets")
    running.until(lambda lines: sum(line["event"] == "share" for line in lines) >= 2)
    way.ask(31)
    account = running.end()
    assert holds(account)
    assert account["share"] < 0.5
    assert [shed["limit"] for shed in account["shares"]] == ["max-memory"] * len(account["shares"])
    assert account["packets"]["selection"]["sampled_out"] > 0
    problems = [str(problem) for problem in read_bundle([running.folder]).problems]
    assert any("max-memory" in problem for problem in problems)


def test_metrics_tell_the_same_as_the_account(way: Road, record: Callable[..., Recorded]) -> None:
    running = record("--listen", "127.0.0.1:19309", "--probes", "packets")
    way.ask(3)
    running.until(lambda lines: any(line["event"] == "progress" and line["written"] > 0 for line in lines))
    metrics = way.run("router", "/usr/bin/python3", "-c", _FETCH)
    account = running.end()
    told = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(told['hopline_probe_events_total{probe="packets",what="written"}']) <= account["packets"]["all"]["written"]
    assert float(told["hopline_kept_share"]) == 1


_FETCH = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:19309/metrics').read().decode(), end='')"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--probes", "nonsense"), "there is no such probe"),
        (("--net", "10.0.0.0/99"), "--net 10.0.0.0/99"),
        (("--endpoint", "somewhere"), "--endpoint somewhere"),
        (("--service", "shop/web"), "--cluster FILE"),
        (("--duration", "soon"), "--duration soon"),
        (("--max-disk", "much"), "--max-disk much"),
        (("--headers-only", "--payload-bytes", "3"), "--headers-only"),
        (("--listen", "nowhere"), "--listen nowhere"),
    ],
)
def test_wrong_usage_is_named(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = subprocess.run([*RECORD, "-o", str(tmp_path / "b"), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_two_recorders_of_one_node_do_not_write_into_one_folder(record: Callable[..., Recorded]) -> None:
    record("--probes", "packets")
    second = record("--probes", "packets", wait=False)
    assert second.process.wait(SECONDS) == 2
    assert "--node" in second.folder.with_name("bundle.log").read_text()


def test_without_permission_it_says_what_is_missing(tmp_path: Path) -> None:
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    done = subprocess.run([*powerless, *RECORD, "-o", str(tmp_path / "b"), "--duration", "1s"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "CAP_" in done.stderr


def tc_programs(way: Road, name: str) -> list[int]:
    """How many TC programs an interface of the router has at each side (Debian's bpftool does not know TCX)."""
    (link,) = json.loads(way.run("router", "ip", "-j", "link", "show", name))
    with inside(way.netns("router")):
        return [len(tcx_programs(direction, link["ifindex"])) for direction in (INGRESS, EGRESS)]


def test_an_interface_may_be_seen_by_tc_instead(way: Road, record: Callable[..., Recorded]) -> None:
    """Each packet once, also at that interface; and everything passes."""
    running = record("--tc", "to-server", "--net", "10.0.0.0/8", "--probes", "packets")
    assert tc_programs(way, "to-server") == [1, 1]
    way.send([b"one", b"two", b"three"])
    account = running.end()
    assert holds(account)
    assert account["packets"]["all"]["written"] == 3 * 2 * 2
    (capture,) = running.captures()
    columns = (capture.observations[each].tolist() for each in ("point", "direction"))
    seen = Counter((capture.points[point].interface, direction) for point, direction in zip(*columns, strict=True))
    assert seen == dict.fromkeys(itertools.product(("to-client", "to-server"), (1, 2)), 3)
    assert tc_programs(way, "to-server") == [0, 0]


def test_tc_is_refused_where_another_program_is(way: Road, record: Callable[..., Recorded]) -> None:
    record("--tc", "to-server", "--probes", "packets")
    second = record("--tc", "to-server", "--probes", "packets", name="second", wait=False)
    assert second.process.wait(SECONDS) == 1
    assert "to-server has a TC program already" in second.folder.with_name("second.log").read_text()
