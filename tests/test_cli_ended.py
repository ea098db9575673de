"""A command that is ended from outside leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PROGRAM = """
import os, signal, sys, tempfile, time
from analysis import commands

def busy():
    with tempfile.TemporaryDirectory(prefix="hopline-"):
        there, here = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(here, b"there")
            time.sleep(60)
            os._exit(1)
        os.read(there, 5)
        os.kill(child, signal.SIGTERM)
        print(os.waitpid(child, 0)[1], flush=True)
        time.sleep(60)

commands._app = lambda asked: busy
commands.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_temporary_folders_go_with_a_command_that_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert int(running.stdout.readline()) == signal.SIGTERM, "a forked process ends at once"
        assert [path.name.startswith("hopline-") for path in tmp_path.iterdir()] == [True]
        running.send_signal(number)
        running.wait(30)
    assert list(tmp_path.iterdir()) == []
    assert running.returncode == (-number if number == signal.SIGINT else 128 + number)


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As nohup has it."""
    program = PROGRAM.replace("commands.main()", "signal.signal(signal.SIGHUP, signal.SIG_IGN)\ncommands.main()")
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        running.send_signal(signal.SIGTERM)
        running.wait(30)
    assert running.returncode == 128 + signal.SIGTERM
