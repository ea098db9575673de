"""What recording costs an nginx under wrk, behind a node that translates: pairs of runs without and with a recorder (needs root)."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tests.live.road import SERVER, VIP, Recorded, Road, road

PORT, TARGET = 8088, 8089
RECORDERS: dict[str, tuple[str, ...]] = {  # what follows `hopline record`, or `tcpdump -i any -w FILE`
    "record, packets": ("hopline", "--probes", "packets"),
    "record, packets and ledger": ("hopline", "--probes", "packets,ledger"),
    "record, both, headers only": ("hopline", "--probes", "packets,ledger", "--headers-only"),
    "tcpdump -s 128": ("tcpdump", "-s", "128"),
    "tcpdump, whole packets": ("tcpdump", "-s", "0"),
}
LOADS = {"paced": ("-c", "16", "8"), "saturating": ("-c", "16", "0")}  # connections, and ms that each rests before its next request
BODY_BYTES = 1024
REPLICATES = 10_000
FIGURES = ("requests_per_s", "p50_us", "p99_us")

# kube-proxy's shape: a chain of all Services, one of this one, one of its endpoint; what it marks is masqueraded (by the road's own rule).
RULES = f"""
iptables -t nat -N KUBE-SERVICES && iptables -t nat -I PREROUTING -j KUBE-SERVICES
iptables -t nat -N KUBE-SVC-BENCH && iptables -t nat -A KUBE-SERVICES -d {VIP} -p tcp --dport {PORT} -j KUBE-SVC-BENCH
iptables -t nat -N KUBE-MARK-MASQ && iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
iptables -t nat -N KUBE-SEP-BENCH && iptables -t nat -A KUBE-SVC-BENCH -m statistic --mode random --probability 1.0 -j KUBE-SEP-BENCH
iptables -t nat -A KUBE-SEP-BENCH -j KUBE-MARK-MASQ
iptables -t nat -A KUBE-SEP-BENCH -p tcp -j DNAT --to-destination {SERVER}:{TARGET}
"""
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; user root;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d;
  scgi_temp_path {folder}/e;
  server {{ listen {server}:{port} backlog=1024; root {folder}; }}
}}
"""
# One connection in twenty requests ends, so that there are new ones.
WRK = """
local kept, ended, count = nil, nil, 0
function init() kept = wrk.format("GET", "/body"); ended = wrk.format("GET", "/body", {["Connection"] = "close"}) end
function request() count = count + 1; if count % 20 == 0 then return ended end; return kept end
REST
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "us": %d, "p50_us": %g, "p99_us": %g, "errors": %d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def on(which: Callable[[set[int]], int]) -> list[str]:
    """What to put before a command that is to run on one processor: else client and server share one in some runs, and in others not."""
    return ["taskset", "-c", str(which(os.sched_getaffinity(0)))]


@contextmanager
def served() -> Iterator[tuple[Road, Path]]:
    """The road, with nginx at its end; a folder to write to."""
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as made, road("bench") as way, ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o755)
        way.run("router", "sh", "-ec", RULES)
        (folder / "body").write_bytes(b"x" * BODY_BYTES)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, server=SERVER, port=TARGET))
        for name, (_, _, rest) in LOADS.items():
            (folder / f"{name}.lua").write_text(WRK.replace("REST", f"function delay() return {rest} end" if int(rest) else ""))
        running = stack.enter_context(subprocess.Popen(way.command("server", *on(max), "nginx", "-c", str(folder / "nginx.conf"))))
        stack.callback(running.terminate)
        time.sleep(0.5)
        yield way, folder


def load(way: Road, folder: Path, name: str, seconds: float) -> dict[str, float]:
    """Run wrk for so long: requests/s, and latencies in µs."""
    option, connections, _ = LOADS[name]
    words = [
        *on(min),
        "wrk",
        "-t",
        "1",
        option,
        connections,
        "-d",
        f"{seconds:.0f}s",
        "-s",
        str(folder / f"{name}.lua"),
        f"http://{VIP}:{PORT}",
    ]
    told = json.loads(way.run("client", *words).splitlines()[-1])
    return {"requests_per_s": 1e6 * told["requests"] / told["us"]} | {key: told[key] for key in ("p50_us", "p99_us", "errors")}


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far (proc(5), stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Recording:
    """A recorder in the router's namespace."""

    def __init__(self, way: Road, folder: Path, words: tuple[str, ...]) -> None:
        self.hopline = Recorded(way, folder / "bundle", *words[1:], "--no-rules") if words[0] == "hopline" else None
        if self.hopline:
            self.process = self.hopline.process
        else:
            command = way.command("router", "tcpdump", "-n", "-i", "any", "-w", str(folder / "tcpdump.pcap"), *words[1:])
            self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            time.sleep(1)

    def end(self) -> dict[str, float]:
        """Packets that it saw and lost; for hopline, what a packet costs inside the kernel."""
        if self.hopline:
            account = self.hopline.end()
            packets, probe = account["packets"]["all"], account["probes"]["packets"]
            ledger = account["probes"].get("ledger", {"dropped": 0})
            return {"seen": packets["seen"], "lost": packets["dropped"], "ledger_lost": ledger["dropped"],
                    "kernel_ns": probe["cost_ns"] / max(probe["seen"], 1)}  # fmt: skip
        self.process.terminate()
        _, told = self.process.communicate()
        counts = {words: int(line.split()[0]) for line in told.splitlines() for words in ("captured", "dropped by kernel") if words in line}
        return {"seen": counts["captured"], "lost": counts["dropped by kernel"]}


def pair(way: Road, folder: Path, words: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Every load without the recorder, then with it."""
    found: dict[str, Any] = {"off": {name: load(way, folder, name, seconds) for name in LOADS}, "on": {}}
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as made:
        recording = Recording(way, Path(made), words)
        for name in LOADS:
            before = cpu_seconds(recording.process.pid)
            found["on"][name] = load(way, folder, name, seconds)
            found["on"][name]["cpu_share"] = (cpu_seconds(recording.process.pid) - before) / seconds
        return found | recording.end()


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median of paired ratios, with the bootstrap's 95 % percentile interval (Efron & Tibshirani, 1993, 13.3)."""
    drawn = np.random.default_rng(0).choice(ratios, (REPLICATES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return statistics.median(ratios), float(low), float(high)


def options(parser: argparse._ActionsContainer) -> None:
    """What can be asked of this one."""
    parser.add_argument("--load-seconds", type=float, default=3.0, help="of each load, without and with (default: %(default)s)")
    parser.add_argument("--recorder", choices=RECORDERS, action="append", help="only this one. Repeatable")


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Rounds in which every recorder has its pair."""
    chosen = asked.recorder or list(RECORDERS)
    pairs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    with served() as (way, folder):
        load(way, folder, "saturating", 1)
        for number in range(asked.rounds):
            for name, some in pairs.items():
                console.print(f"round {number + 1} of {asked.rounds}: {name}", style="dim")
                some.append(pair(way, folder, RECORDERS[name], asked.load_seconds))
    return {"seconds": asked.load_seconds, "pairs": pairs, "results": {name: _result(some) for name, some in pairs.items()}}


def _result(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        load_: {
            what: interval([each["on"][load_][what] / each["off"][load_][what] for each in pairs])
            for what in FIGURES
        }
        | {"cpu_share": statistics.median(each["on"][load_]["cpu_share"] for each in pairs)}
        for load_ in LOADS
    } | {
        what: statistics.median(each[what] for each in pairs) for what in ("seen", "lost", "ledger_lost", "kernel_ns") if what in pairs[0]
    }  # fmt: skip


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """A table for each load: ratios with, to without; and what the recorder itself takes."""
    everything = [each for some in found["pairs"].values() for each in some]
    for name in LOADS:
        without = {what: statistics.median(each["off"][name][what] for each in everything) for what in FIGURES}
        title = (
            f"{name}: without a recorder {without['requests_per_s']:,.0f} requests/s, "
            f"p50 {without['p50_us']:,.0f} µs, p99 {without['p99_us']:,.0f} µs"
        )
        table = Table("with / without", "requests/s", "p50", "p99", "CPU of a core", title=title, box=box.SIMPLE_HEAD)
        for recorder, each in found["results"].items():
            ratios = [f"{middle:.3f} ({low:.3f}-{high:.3f})" for middle, low, high in (each[name][what] for what in FIGURES)]
            table.add_row(recorder, *ratios, f"{each[name]['cpu_share']:.1%}")
        yield table
    for recorder, each in found["results"].items():
        inside = f"; {each['kernel_ns']:.0f} ns of each packet's way in the kernel" if "kernel_ns" in each else ""
        yield f"{recorder}: {each['seen']:,.0f} packets, {each['lost']:,.0f} lost{inside}"
    errors = sum(each[state][name]["errors"] for each in everything for state in ("off", "on") for name in LOADS)
    yield f"{errors:,.0f} requests failed in all runs"
