"""The conntrack listener in real namespaces: what it writes is what `conntrack` prints, and whatever it misses is counted and said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from kernel.lab import missing

from probes.conntrack import read_ledger, read_netlink
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.ledger import Bounds, Ledger, Listening
from probes.live.ledger.datagrams import require_conntrack
from probes.live.pcapng import section_header
from probes.live.refusals import BpfError, lacking
from probes.live.segments import Segments
from probes.schema import LEDGER, Problem, Table, size, take

from .collected import opened, until
from .datagram_load import RULES

NEW, DESTROY, DUMP = 1, 3, 0
LOAD = Path(__file__).with_name("datagram_load.py")
reason = missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")


no_ring = bool(lacking(["CAP_BPF", "CAP_NET_ADMIN"])) or find_spec("bcc") is None
ring = pytest.mark.skipif(no_ring, reason="may not load eBPF programs here, or has no bcc (apt install python3-bpfcc)")
ways = pytest.mark.parametrize("ring_bytes", [pytest.param(1 << 24, id="ring", marks=ring), pytest.param(0, id="socket")])


class Place:
    """A network namespace of its own."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, Path("/run/netns") / name

    def run(self, *words: str) -> str:
        done = subprocess.run(["ip", "netns", "exec", self.name, *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, rate: int, count: int) -> None:
        """So many datagrams to so many destinations."""
        self.run(sys.executable, str(LOAD), str(rate), str(count))


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place(f"hop{os.getpid()}-ledger")
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        made.run("sh", "-ec", RULES)
        yield made
    finally:
        subprocess.run(["ip", "netns", "delete", made.name], check=True)


Start = Callable[..., Ledger]


@pytest.fixture
def start(place: Place, tmp_path: Path) -> Start:
    """Begin a ledger of `place` that writes below `tmp_path`, or another folder."""

    def begin(folder: Path = tmp_path, *, budget: Budget | None = None, **options: object) -> Ledger:
        segments = Segments(folder, section_header, budget or Budget(), prefix="node-a.conntrack-")
        return Ledger(segments, Clock(), netns=place.path, **options)  # type: ignore[arg-type]

    return begin


def written(folder: Path) -> tuple[Table, list[Problem]]:
    """All that is in the files."""
    tables, problems = [], []
    for path in sorted(folder.glob("*.pcapng")):
        with path.open("rb") as stream:
            table, found = read_netlink(stream, path.name)
        tables.append(table)
        problems += found
    return LEDGER.concat(tables), problems


def drain(ledger: Ledger, times: int) -> None:
    """So many times, as a recorder does: what is there and what a dump has is read piece by piece."""
    for _ in range(times):
        ledger.drain()
        time.sleep(0.01)


def balanced(ledger: Ledger) -> dict[str, int]:
    counts = ledger.counters()
    assert counts["seen"] == counts["written"] + counts["dropped"]
    return counts


def in_order(table: Table) -> Table:
    """Without times, which nobody shares, and sorted by everything else: two listeners hear of two processors in different orders."""
    columns = [name for name in table if name != "time_ns"]
    return take({name: table[name] for name in columns}, np.lexsort([table[name] for name in columns]))


def listens(process: int) -> bool:
    """Whether one of its sockets is in a group of conntrack's (NETLINK_NETFILTER: 12)."""
    sockets = [line.split() for line in Path(f"/proc/{process}/net/netlink").read_text().splitlines()[1:]]
    own = opened(process)
    return any(socket[1] == "12" and int(socket[3], 16) and f"socket:[{socket[-1]}]" in own for socket in sockets)


def both_listen(place: Place, ledger: Ledger, text: Path) -> bool:
    """Traffic that `ledger` hears, and `conntrack`, which writes `text`; whether that lost nothing: it does when it has to wait."""
    with text.open("wb") as out:
        command = ["ip", "netns", "exec", place.name, "conntrack", "-E", "-b", "8388608", "-o", "timestamp,id"]
        printing = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)
        try:
            until(lambda: listens(printing.pid))
            place.run("sh", "-ec", TRAFFIC)
            drain(ledger, 50)
        finally:
            printing.terminate()
            _, told = printing.communicate()
    ledger.close()
    return b"ENOBUFS" not in told


@ways
def test_rows_are_those_that_conntrack_prints(place: Place, start: Start, tmp_path: Path, ring_bytes: int) -> None:
    """Both listen at once: TCP, UDP, ICMP and GRE, both families, answered or not, translated or not, new, changed and ended."""
    place.run("sh", "-ec", SERVICE)
    said: list[str] = []
    for attempt in range(9):
        folder = tmp_path / str(attempt)
        ledger = start(folder, listening=Listening(updates=True, ring_bytes=ring_bytes), say=said.append)
        if both_listen(place, ledger, text := tmp_path / f"{attempt}.conntrack.txt"):
            break
    balanced(ledger)
    assert not said
    table, problems = written(folder)
    printed, unread = read_ledger(text.read_bytes(), text.name)
    assert ["zones (7)" in problem.what for problem in problems] == [True]
    assert not unread
    ours, theirs = in_order(take(table, table["event"] != DUMP)), in_order(printed)
    assert set(theirs["proto"].tolist()) >= {1, 6, 17, 47, 58}
    assert set(theirs["event"].tolist()) == {1, 2, 3}
    assert size(ours) == size(theirs)
    for name, column in theirs.items():
        assert np.array_equal(ours[name], column), name
    if ring_bytes:  # nobody drained while it happened, and yet
        told_ns = dict(zip(zip(printed["id"].tolist(), printed["event"].tolist(), strict=True), printed["time_ns"].tolist(), strict=True))
        rows = zip(table["id"].tolist(), table["event"].tolist(), table["time_ns"].tolist(), strict=True)
        apart_ns = np.median([abs(time_ns - told_ns[identity, event]) for identity, event, time_ns in rows if event in (NEW, DESTROY)])
        assert apart_ns < np.ptp(printed["time_ns"]) / 10


SERVICE = """
ip addr add 192.0.2.1/32 dev lo
ip -6 addr add fd00::1/128 dev lo nodad
iptables-nft -t nat -A OUTPUT -d 192.0.2.1 -p tcp --dport 80 -j DNAT --to 127.0.0.1:8123
ip6tables-nft -t nat -A OUTPUT -d fd00::1 -p tcp --dport 80 -j DNAT --to [::1]:8123
"""
TRAFFIC = f"""
{sys.executable} - <<'PYTHON'
import socket, time
for family, here, there in ((socket.AF_INET, "127.0.0.1", "192.0.2.1"), (socket.AF_INET6, "::1", "fd00::1")):
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((here, 8123))
    listening.listen(64)
    echo = socket.socket(family, socket.SOCK_DGRAM)
    echo.bind((here, 8124))
    for number in range(23):
        asking = socket.create_connection((there, 80))
        answering, _ = listening.accept()
        asking.sendall(b"x")
        answering.recv(1)
        (asking if number % 2 else answering).close()
        (answering if number % 2 else asking).close()
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b"x", (here, 8124))
            if number % 3:
                echo.sendto(b"y", echo.recvfrom(9)[1])
        time.sleep(0.02)  # conntrack 1.4.7 loses events that come fast, whatever its --buffer-size
PYTHON
ping -c 2 -i 0.1 192.0.2.1
ping -c 2 -i 0.1 fd00::1
conntrack -I -p gre -s 192.0.2.1 -d 192.0.2.9 --srckey 5 --dstkey 6 -t 60
conntrack -I -p tcp -s 192.0.2.1 -d 192.0.2.9 --sport 5 --dport 6 --state ESTABLISHED -t 60 -w 7
conntrack -U -p tcp -s 192.0.2.1 -d 192.0.2.9 --sport 5 --dport 6 -m 9 -w 7 || true
conntrack -F
"""


@ways
def test_nothing_is_lost_at_50_000_new_entries_a_second(place: Place, start: Start, tmp_path: Path, ring_bytes: int) -> None:
    said: list[str] = []
    ledger = start(listening=Listening(ring_bytes=ring_bytes), say=said.append)
    sending = subprocess.Popen(["ip", "netns", "exec", place.name, sys.executable, str(LOAD), "50000", "100003"])
    while sending.poll() is None:
        ledger.drain()
        time.sleep(0.02)
    ledger.close()
    counts = balanced(ledger)
    table, problems = written(tmp_path)
    assert not said
    assert counts["dropped"] == 0
    assert np.count_nonzero(table["event"] == NEW) == 100_003
    assert not problems
    assert (table["original_dst_lo"] >> 16 & 0xFFFF == 0x0A09).all()  # 10.9.0.0/16 before,
    assert (table["reply_src_lo"] >> 16 & 0xFFFF == 0x7F09).all()  # 127.9.0.0/16 after


@pytest.mark.parametrize("ring_bytes", [1 << 16, 0])
def test_an_overrun_is_counted_said_and_healed(place: Place, start: Start, tmp_path: Path, ring_bytes: int) -> None:
    """Nobody drains a small buffer: the events that had no room are as many as are missing, and a dump has their entries."""
    ledger = start(listening=Listening(ring_bytes=ring_bytes, buffer_bytes=1 << 17))
    drain(ledger, 10)
    place.load(50_000, 5_003)
    drain(ledger, 50)
    ledger.close()
    counts = balanced(ledger)
    table, problems = written(tmp_path)
    new, dumped = (take(table, table["event"] == event) for event in (NEW, DUMP))
    assert counts["overrun"] == 5_003 - size(new) > 0
    assert counts["dropped"] == counts["overrun"]
    ends = {(dst, port) for rows in (new, dumped) for dst, port in zip(rows["original_dst_lo"], rows["original_dport"], strict=True)}
    assert len(ends) == 5_003
    assert len(problems) == 1
    assert problems[0].what.startswith(f"the ledger missed {counts['overrun']} events between ")


def test_entries_from_before_are_dumped_first(place: Place, start: Start, tmp_path: Path) -> None:
    place.load(50_000, 2_003)
    ledger = start()
    drain(ledger, 50)
    place.load(50_000, 101)
    ledger.close()
    table, problems = written(tmp_path)
    assert not problems
    assert np.bincount(table["event"]).tolist() == [2_003, 101]
    assert balanced(ledger)["dump_entries"] == 2_003


@pytest.mark.parametrize(
    ("bounds", "said"), [(Bounds(entries=500), "at its limit of 500 entries"), (Bounds(seconds=0.0), "at its limit of 0 s")]
)
def test_a_dump_has_bounds_and_says_where_it_was_cut(place: Place, start: Start, tmp_path: Path, bounds: Bounds, said: str) -> None:
    place.load(50_000, 10_007)
    ledger = start(bounds=bounds)
    drain(ledger, 20)
    ledger.close()
    counts = balanced(ledger)
    table, problems = written(tmp_path)
    assert counts["dumps_cut"] == 1
    assert size(table) == counts["dump_entries"] < 500 + 1500
    assert [said in problem.what and "of 10007" in problem.what for problem in problems] == [True]


@pytest.mark.parametrize("events", [True, False])
def test_the_end_of_a_recording_does_not_wait_long_for_a_dump(place: Place, start: Start, tmp_path: Path, events: bool) -> None:
    """Neither for one that is going on nor for the one that is due then."""
    place.load(50_000, 10_007)
    ledger = start(events=events, bounds=Bounds(closing_seconds=0.0))
    ledger.close()
    table, problems = written(tmp_path)
    assert size(table) == balanced(ledger)["dump_entries"] < 1500
    assert ["at its limit of 0 s" in problem.what for problem in problems] == [True]


def test_without_events_nobody_listens_and_one_dump_ends_it(place: Place, start: Start, tmp_path: Path) -> None:
    ledger = start(events=False)
    place.load(50_000, 1_009)
    drain(ledger, 5)
    assert ledger.counters()["seen"] == 0
    assert "netfilter" not in listeners(place)
    ledger.close()
    table, problems = written(tmp_path)
    assert not problems
    assert table["event"].tolist() == [DUMP] * 1_009


def listeners(place: Place) -> str:
    """The sockets to netfilter (12) there that hear any group."""
    lines = [line.split() for line in place.run("cat", "/proc/net/netlink").splitlines()[1:]]
    return " ".join("netfilter" for fields in lines if fields[1] == "12" and int(fields[3], 16))


def test_a_listener_is_gone_when_it_is_closed(place: Place, start: Start) -> None:
    ledger = start()
    assert listeners(place) == "netfilter"
    ledger.close()
    assert listeners(place) == ""


def test_what_the_disk_has_no_room_for_is_counted_and_said(place: Place, start: Start, tmp_path: Path) -> None:
    ledger = start(budget=Budget(200_000, "stop"))
    place.load(50_000, 5_003)
    drain(ledger, 30)
    ledger.close()
    counts = balanced(ledger)
    table, _ = written(tmp_path)
    assert counts["seen"] == 5_003 + 1  # the end of an empty dump
    assert counts["overrun"] == 0
    assert 0 < size(table) <= counts["written"] <= size(table) + 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*.pcapng")) <= 200_000


def test_a_kernel_without_conntrack_is_told_apart_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "kallsyms").write_bytes(b"ffffffff81000000 T _stext\n")
    with pytest.raises(BpfError, match="modprobe nf_conntrack_netlink"):
        require_conntrack(tmp_path)


def test_a_process_that_may_not_listen_is_told_what_it_lacks() -> None:
    program = "from probes.live.ledger.datagrams import hear, netlink_socket\nhear(netlink_socket(), [1])"
    command = ["setpriv", "--inh-caps=-all", "--bounding-set=-net_admin", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "BpfError: listening to conntrack is not permitted: CAP_NET_ADMIN missing" in done.stderr
