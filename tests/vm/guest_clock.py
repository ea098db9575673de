"""The machine's clock is set while a recorder runs: no record moves, nothing is lost, and the recording says so."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from live.road import CLIENT, Recorded, holds, road

from analysis.records import Recorder
from probes.decode.numbers import TCP
from tracer.bundle import read_bundle
from tracer.trace import trace

from .boot import MARK

pytestmark = pytest.mark.skipif(MARK not in Path("/proc/cmdline").read_text(), reason="sets the clock: only in a guest of tests/vm/boot.py")
SECONDS = 400
STEPS_SECONDS = (3.7, -11.3)
ASKED = 7  # connections before, between and after
SLACK_NS = 1_000_000_000  # of comparing two processes' offsets between the clocks; less than a step


def step(seconds: float) -> None:
    """Set the machine's clock, as `date -s` does."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def test_a_clock_that_is_set_moves_no_record_and_loses_none(tmp_path: Path) -> None:
    subprocess.run(["modprobe", "nf_conntrack_netlink"], check=True)
    with road("clock") as way:
        running = Recorded(way, tmp_path / "bundle", "--probes", "packets,ledger,confirm,drops", seconds=SECONDS)
        begun_ns, offset_ns = time.monotonic_ns(), time.time_ns() - time.monotonic_ns()
        ports = way.ask(ASKED)
        for number, seconds in enumerate(STEPS_SECONDS, start=1):
            step(seconds)
            ports += way.ask(ASKED)  # also before it is noticed
            running.until(lambda lines, number=number: sum(line["event"] == "clock-step" for line in lines) == number)
        ports += way.ask(ASKED)
        ended_ns = time.monotonic_ns()
        account = running.end()
    assert holds(account)
    assert account["complete"]
    assert account["unavailable"] == []
    assert account["packets"]["all"]["dropped"] == 0
    # a busy guest takes a while from asking the clock to setting it
    assert [each["by_ns"] / 1e9 for each in account["clock_steps"]] == pytest.approx(STEPS_SECONDS, abs=1)
    columns = [capture.observations for capture in running.captures()]
    times = np.concatenate([rows["time_ns"][rows["proto"] == TCP] for rows in columns])  # others have nothing to do with what was asked
    assert begun_ns + offset_ns - SLACK_NS < times.min()
    assert times.max() < ended_ns + offset_ns + SLACK_NS
    bundle = read_bundle([running.folder])
    assert sum("clock was set" in problem.what for problem in bundle.problems) == len(STEPS_SECONDS)
    records = [record for record in Recorder(trace(bundle)) if record["original"] and record["original"]["src"].startswith(f"{CLIENT}:")]
    assert [record["original"]["src"] for record in records] == [f"{CLIENT}:{port}" for port in ports]  # in this order
    for record in records:
        assert {"isn", "conntrack"} <= set(record["evidence"])
        assert record["status"] == "closed"
