"""`hopline snapshot` and `hopline watch` as commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from analysis.commands.snapshot import snapshot as snapshot_command
from analysis.commands.watch import watch as watch_command
from probes.addresses import parse
from tracer.cluster import read_cluster

from .collected import PATIENCE_SECONDS
from .server import PATHS, PODS, ROOT, Server, answer, pod


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    application.command()(snapshot_command)
    application.command()(watch_command)
    return application


def test_snapshot_writes_once_and_overwrites_only_by_force(server: Server, kubeconfig: Path, app: typer.Typer, tmp_path: Path) -> None:
    server.put(pod("web", "10.244.0.2"))
    path = tmp_path / "cluster.json"
    command = ["snapshot", "-o", str(path), "--kubeconfig", str(kubeconfig)]
    first = CliRunner().invoke(app, command)
    assert (first.exit_code, "1 objects" in first.stderr) == (0, True)
    before = path.read_bytes()
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "--force" in refused.stderr, path.read_bytes() == before) == (2, True, True)
    server.put(pod("api", "10.244.0.3"))
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert len(json.loads(path.read_text())["items"]) == 2
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".part")] == []


def test_snapshot_prints_without_a_file_and_nothing_but_json(server: Server, kubeconfig: Path, app: typer.Typer) -> None:
    server.put(pod("web", "10.244.0.2"))
    server.always[PATHS["Node"]] = answer(403)
    result = CliRunner().invoke(app, ["snapshot", "--kubeconfig", str(kubeconfig)])
    assert result.exit_code == 0
    assert [item["kind"] for item in json.loads(result.stdout)["items"]] == ["Pod"]
    assert "warning: /api/v1/nodes" in result.stderr


@pytest.mark.parametrize("command", ["snapshot", "watch"])
@pytest.mark.parametrize("trouble", ["no kubeconfig", "no context", "401", "garbage"])
def test_a_cluster_that_cannot_be_asked_is_exit_code_3(
    command: str, trouble: str, server: Server, kubeconfig: Path, app: typer.Typer, tmp_path: Path
) -> None:
    options = {"no kubeconfig": ["--kubeconfig", str(tmp_path / "none")], "no context": ["--context", "elsewhere"]}.get(trouble, [])
    if trouble == "401":
        server.always = dict.fromkeys(PATHS.values(), answer(401))
    if trouble == "garbage":
        kubeconfig.write_text("]")
    output = tmp_path / "out"
    result = CliRunner().invoke(app, [command, "--kubeconfig", str(kubeconfig), *options, "-o", str(output)])
    assert result.exit_code == 3, (result.output, result.exception)
    assert result.stderr.startswith("hopline: ")
    assert "Traceback" not in result.output
    assert not output.exists() or output.read_bytes() == b""


def test_an_output_folder_that_does_not_exist_is_exit_code_4(kubeconfig: Path, app: typer.Typer, tmp_path: Path) -> None:
    for command in ("snapshot", "watch"):
        result = CliRunner().invoke(app, [command, "--kubeconfig", str(kubeconfig), "-o", str(tmp_path / "no" / "file")])
        assert (command, result.exit_code) == (command, 4)


@pytest.mark.parametrize("command", ["snapshot", "watch"])
def test_help_has_an_example_and_the_exit_codes(command: str, app: typer.Typer) -> None:
    text = CliRunner().invoke(app, [command, "--help"]).stdout
    assert f"hopline {command} -o bundle/" in text
    assert "Exit codes" in text


def test_watch_for_a_time_adds_to_its_file_after_a_half_written_line(
    server: Server, kubeconfig: Path, app: typer.Typer, tmp_path: Path
) -> None:
    server.put(pod("web", "10.244.0.2"))
    path = tmp_path / "watch.jsonl"
    path.write_text('{"ts": 1, "type": "ADD')
    result = CliRunner().invoke(app, ["watch", "-o", str(path), "--duration", "0.2", "--kubeconfig", str(kubeconfig)])
    assert (result.exit_code, "1 events" in result.stderr) == (0, True)
    timeline, problems = read_cluster([path])
    owner = timeline.owner(parse("10.244.0.2"), time.time_ns())
    assert owner is not None
    assert owner.name == "web"
    assert [problem.offset for problem in problems] == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_watch_with_every_event_written(number: signal.Signals, server: Server, kubeconfig: Path, tmp_path: Path) -> None:
    server.put(pod("web", "10.244.0.2"))
    path = tmp_path / "watch.jsonl"
    code = "import typer; from analysis.commands.watch import watch; typer.run(watch)"
    command = [sys.executable, "-c", code, "-o", str(path), "--kubeconfig", str(kubeconfig)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not server.asked(PODS, "watch") and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        server.put(pod("api", "10.244.0.3"))
        while path.read_bytes().count(b"\n") < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert [json.loads(text)["type"] for text in path.read_text().splitlines()] == ["ADDED", "ADDED"]
    assert "2 events" in errors
