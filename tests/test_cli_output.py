"""Standard output that is full or closed, folders that cannot be written whole: one clear line, and nothing partial stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES

ENTRY = [sys.executable, "-c", "from analysis.commands import main; main()"]
OK, OUTPUT = 0, 4
BUNDLE = SAMPLES / "iptables"
PRINTING = (
    ["trace", BUNDLE, "--l4-only"], ["trace", BUNDLE, "--l4-only", "--json"], ["show", BUNDLE, "c1"], ["explain", BUNDLE, "r1"],
    ["explain", BUNDLE, "r1", "--json"], ["report", BUNDLE, "--l4-only", "-o", "-"], ["clocks", BUNDLE], ["clocks", BUNDLE, "--json"],
    ["--help"], ["--version"], ["trace", "--help"],
)  # fmt: skip
Command = list[str | Path]


def run(redirection: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """The command with this of a shell's redirections or limits before it."""
    words = ["sh", "-c", f'{redirection} && exec "$@"', "sh", *ENTRY, *command]
    return subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("command", PRINTING, ids=lambda command: " ".join(word for word in command if isinstance(word, str)))
@pytest.mark.parametrize(
    ("redirection", "why"), [("exec >/dev/full", "No space left on device"), ("exec >&-", "Bad file descriptor")], ids=["full", "closed"]
)
def test_where_nothing_can_be_printed_is_said(command: Command, redirection: str, why: str) -> None:
    done = run(redirection, *command)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        OUTPUT, f"hopline: output cannot be written: {why} (check where it goes to, and the free space there)",
    )  # fmt: skip
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["exec >&-", "exec <&-", "exec 2>&-", "exec <&- >&- 2>&-"])
def test_what_prints_nothing_needs_no_stream(redirection: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(redirection, "report", BUNDLE, "--l4-only", "-o", page)
    assert (done.returncode, page.read_text()[-8:].strip()) == (OK, "</html>"), done.stderr


PARQUET, SYNTH = ["trace", BUNDLE, "--l4-only", "--parquet"], ["synth", "--requests", "200", "-o"]


@pytest.mark.parametrize(
    ("command", "there"), [(PARQUET, False), (SYNTH, False), (SYNTH, True)], ids=["parquet", "synth", "synth-into-an-empty-folder"]
)
def test_of_a_folder_that_cannot_be_written_whole_nothing_stays(command: Command, there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    steps = f'mount -t tmpfs -o size=64k none {tmp_path} && {f"mkdir {folder}" if there else "true"} || exit 77; "$@"; code=$?; '
    steps += f'find {tmp_path} -mindepth 1 >&2; exit "$code"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", steps, "sh", *ENTRY, *command, folder]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no small disk can be mounted: {done.stderr}")
    said, *left = done.stderr.splitlines()
    assert (done.returncode, left) == (OUTPUT, [str(folder)] if there else [])
    assert said.startswith(f"hopline: {folder} cannot be written: ")
    assert said.endswith("No space left on device (check the folder and its free space)")
