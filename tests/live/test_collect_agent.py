"""`hopline agent` as the DaemonSet runs it, and the document that tells of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import yaml
from conftest import Hopline

from analysis.commands import app
from probes.live.store import Store
from tracer.live import RESOURCES

from .collected import PATIENCE_SECONDS, opened, until
from .server import ROOT

AGENT = [sys.executable, "-c", "from analysis.commands import main; main()", "agent"]
PAGE = (ROOT / "docs" / "collect.md").read_text()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[int]:
    """A running agent's port."""
    port = 0
    with subprocess.Popen([*AGENT, "--store", tmp_path / "store", "--listen", "127.0.0.1:0"], cwd=ROOT, stderr=subprocess.PIPE) as process:
        until(lambda: ports(process.pid))
        (port,) = ports(process.pid)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def ports(process: int) -> list[int]:
    """The TCP ports that a process listens on."""
    mine = opened(process)
    rows = [line.split() for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS) as response:
        return response.read().decode()


def test_an_agent_is_healthy_and_tells_what_it_keeps(agent: int, tmp_path: Path) -> None:
    assert (get(agent, "/healthz"), get(agent, "/readyz")) == ("ok\n", "ok\n")
    assert "\nhopline_recordings 0.0\n" in get(agent, "/metrics")
    store = Store(tmp_path / "store")
    store.start("one", lambda folder: ["sh", "-c", f"echo 12345 >{folder}/file; exec sleep 60"])
    until((store.root / "one" / "bundle" / "file").exists)
    lines = get(agent, "/metrics").splitlines()
    assert "hopline_recordings 1.0" in lines
    assert "hopline_recordings_running 1.0" in lines
    assert "hopline_recordings_expired_total 0.0" in lines
    assert next(float(line.split()[1]) for line in lines if line.startswith("hopline_recordings_bytes ")) >= 6
    store.remove("one", 0.0)


def test_the_commands_answer_in_json(hopline: Hopline, tmp_path: Path) -> None:
    store = ["agent", "--store", str(tmp_path / "store")]
    assert set(json.loads(hopline(*store, "hello").out)) == {"time_ns", "version"}
    assert json.loads(hopline(*store, "remove", "one").out) == {"removed": False}
    for verb in ("files", "send", "follow"):
        done = hopline(*store, verb, "one")
        assert (done.code, done.out) == (1, "")
        assert "no such recording" in done.err
    assert hopline(*store, "start", "../one").code == 1


def test_a_store_that_cannot_be_had_is_said(hopline: Hopline, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (["agent"], ["agent", "hello"]):
        done = hopline(words[0], "--store", tmp_path / "file", *words[1:])
        assert (done.code, "mount a volume there" in done.err) == (4, True)


def test_a_port_that_is_taken_is_said(hopline: Hopline, agent: int, tmp_path: Path) -> None:
    done = hopline("agent", "--store", tmp_path, "--listen", f"127.0.0.1:{agent}")
    assert (done.code, "in use" in done.err) == (2, True)


def test_the_page_names_every_command_of_the_agent_and_every_exit_code() -> None:
    command = typer.main.get_command(app)
    verbs = command.commands["agent"].commands  # type: ignore[attr-defined]
    assert set(re.findall(r"^\| `(\w+)[ `]", PAGE.rpartition("hopline agent …")[2], re.MULTILINE)) == set(verbs)
    assert "Exit codes: 0 all nodes, 1 nothing recorded, 2 wrong usage, 3" in PAGE


def test_the_rights_on_the_page_are_those_that_are_needed_and_no_others() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    role, names = yaml.safe_load_all(text)
    assert {tuple(rule["resources"]): rule["verbs"] for rule in role["rules"]} == {
        ("pods",): ["get", "list"],
        ("pods/exec",): ["get", "create"],
    }
    granted = {(group, kind) for rule in names["rules"] for group in rule["apiGroups"] for kind in rule["resources"]}
    assert granted == {(resource.api_version.rpartition("/")[0], resource.plural) for resource in RESOURCES}
    assert {verb for rule in names["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_the_package_brings_the_manifest(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling to build a wheel (dev group)")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        assert content.read("analysis/commands/hopline.yaml") == (ROOT / "deploy" / "hopline.yaml").read_bytes()
