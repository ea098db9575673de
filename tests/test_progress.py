"""Long work shows a bar where somebody looks, and nothing where nobody does."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys

from conftest import ROOT

AT_ONCE = """
import sys
from analysis.commands import main, options
options.PROGRESS_AFTER_S = 0
sys.argv = ["hopline", "trace", "sample_pcaps/iptables", "--limit", "1"]
main()
"""


def started(stderr: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    return subprocess.Popen([sys.executable, "-c", AT_ONCE], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, env=environment)


def test_a_terminal_shows_what_is_being_done() -> None:
    mine, its = pty.openpty()
    said = b""
    with started(its) as process:
        os.close(its)
        with contextlib.suppress(OSError):  # a terminal that nobody has open any more
            while chunk := os.read(mine, 1 << 16):
                said += chunk
    os.close(mine)
    assert process.returncode == 0
    assert b"dissecting" in said
    assert b"node-a.pcap" in said


def test_a_pipe_stays_quiet() -> None:
    with started(subprocess.PIPE) as process:
        assert process.communicate() == (None, b"")
    assert process.returncode == 0
