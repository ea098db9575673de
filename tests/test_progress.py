"""Long work shows a bar where somebody looks, and nothing where nobody does."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys

import pytest
from conftest import ROOT

AT_ONCE = """
import sys
from analysis.commands import main, options
options.PROGRESS_AFTER_S = 0
sys.argv = ["hopline", "trace", "sample_pcaps/iptables", "--limit", "1", *sys.argv[1:]]
main()
"""


def started(stderr: int, *options: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    return subprocess.Popen([sys.executable, "-c", AT_ONCE, *options], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, env=environment)


@pytest.mark.parametrize(
    ("options", "last"), [([], b"dissecting"), (["--l4-only", "--partitions", "3"], b"connections")], ids=["requests", "parts"]
)
def test_a_terminal_shows_what_is_being_done(options: list[str], last: bytes) -> None:
    mine, its = pty.openpty()
    said = b""
    with started(its, *options) as process:
        os.close(its)
        with contextlib.suppress(OSError):  # a terminal that nobody has open any more
            while chunk := os.read(mine, 1 << 16):
                said += chunk
    os.close(mine)
    assert process.returncode == 0
    assert last in said
    assert b"node-a.pcap" in said
    assert b"Traceback" not in said


def test_a_pipe_stays_quiet() -> None:
    with started(subprocess.PIPE) as process:
        assert process.communicate() == (None, b"")
    assert process.returncode == 0
