"""Kernel headers: never needed where the kernel tells its types, and enough where it does not."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.conntrack import read_ledger
from probes.live.bpf import Program
from probes.live.clock import Clock
from probes.live.confirm import RING_BYTES, SOURCE, STRUCTS, Confirmed
from probes.schema import size

from .network import network

BUILD = Path("/lib/modules") / os.uname().release / "build"
pytestmark = pytest.mark.skipif(not BUILD.is_dir(), reason=f"no kernel headers at {BUILD}")


@pytest.fixture
def no_btf() -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/sys/kernel/btf"], check=True)
    yield
    subprocess.run(["umount", "/sys/kernel/btf"], check=True)


def test_headers_are_not_looked_at_where_there_is_btf() -> None:
    subprocess.run(["modprobe", "nf_conntrack"], check=True)
    with Program(SOURCE, {"NETNS": 1, "RING_BYTES": RING_BYTES}, STRUCTS) as program:
        assert program.headers == "BTF"


def test_headers_do_where_there_is_no_btf(no_btf: None, tmp_path: Path) -> None:
    with network("headers") as net:
        net.rules("nftables")
        net.ask(0, socket.SOCK_STREAM, 1)
        probe = Confirmed(tmp_path / "n.conntrack.jsonl", Clock(), netns=net.path("node"))
        net.ask(0, socket.SOCK_STREAM, 7)
        probe.close()
    found, _ = read_ledger((tmp_path / "n.conntrack.jsonl").read_bytes(), "n")
    assert size(found) == 7
