"""The image does what the manifests ask of it, with the rights that they give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, SAMPLES, Hopline

from probes.code_folders import state

from .containers import IMAGE, Store, as_asked, limits, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PODS = {
    each["metadata"]["name"]: each["spec"]["template"]["spec"]
    for each in yaml.safe_load_all((ROOT / "deploy" / "hopline.yaml").read_text())
    if each["kind"] in {"DaemonSet", "Deployment"}
}
LESS = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", *limits())
CONNECTIONS = 23

# In a namespace: CONNECTIONS connections to a server, one after another.
TRAFFIC = f"""
import socket
server = socket.create_server(("127.0.0.1", 8080))
for _ in range({CONNECTIONS}):
    with socket.create_connection(("127.0.0.1", 8080)) as client, server.accept()[0] as accepted:
        client.sendall(b"ping")
        accepted.recv(4)
        accepted.sendall(b"pong")
        client.recv(4)
"""


@pytest.fixture(scope="module")
def store() -> Store:
    made = Store(Path(os.environ["HOPLINE_TEST_IMAGE"]).resolve())
    made.build()
    return made


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace, which stands for a node's; its loopback is up."""
    name = f"hopline-image-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


Running = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agent(store: Store, namespace: str, tmp_path: Path) -> Iterator[Running]:
    """The DaemonSet's container, running; gives `hopline ARGUMENTS…` inside it, as `kubectl exec` would."""
    pod = PODS["hopline-agent"]
    (container,) = pod["containers"]
    name = f"agent-{os.getpid()}"
    options = ["--detach", "--rm", "--name", name, "--network", f"ns:/run/netns/{namespace}", *as_asked(pod, container, tmp_path)]
    store.podman("run", *options, IMAGE, *container["args"])

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return store.podman("exec", name, "hopline", *arguments, check=check)

    yield run
    store.podman("stop", "--time", "20", name)


def until(holds: Callable[[], bool]) -> None:
    """Wait for it, a minute at most."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def get(namespace: str, path: str) -> tuple[int, str]:
    """Status and body of the agent's answer; tried until it answers."""
    program = f"""
import time, urllib.request
for _ in range(120):
    try:
        with urllib.request.urlopen("http://127.0.0.1:9469{path}") as answer:
            print(answer.status, answer.read().decode())
            break
    except OSError:
        time.sleep(0.5)
"""
    done = subprocess.run(["ip", "netns", "exec", namespace, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    status, _, body = done.stdout.partition(" ")
    return int(status), body


def test_the_image_says_its_version_and_starts_without_rights(store: Store) -> None:
    assert store.podman("run", "--rm", *LESS, IMAGE, "--version").stdout == f"hopline {VERSION}\n"
    (found,) = json.loads(store.podman("image", "inspect", IMAGE).stdout)
    assert found["Config"]["User"] == "65532:65532"


def test_a_trace_in_the_image_is_the_trace_of_this_tree(store: Store, hopline: Hopline) -> None:
    options = ("trace", "--l4-only", "--json")
    inside = store.podman(
        "run", "--rm", "--network", "none", *LESS, "--volume", f"{SAMPLES}:/samples:ro", IMAGE, *options, "/samples/iptables"
    )
    assert inside.stdout == hopline(*options, SAMPLES / "iptables").out
    assert inside.stdout.count("\n") > CONNECTIONS


def test_nothing_is_compiled_at_the_first_start(store: Store, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)

    volumes = ("--volume", f"{SAMPLES}:/samples:ro", "--volume", f"{cache}:/cache")
    store.podman("run", "--rm", "--network", "none", *LESS, *volumes, IMAGE, "trace", "--l4-only", "/samples/iptables")
    assert [path.name for path in cache.rglob("*") if path.is_dir()] == ["hopline", state()]  # a place for code, and none in it


@pytest.mark.parametrize("name", PODS)
def test_the_manifests_arguments_are_understood(store: Store, name: str, tmp_path: Path) -> None:
    (container,) = PODS[name]["containers"]
    done = store.podman("run", "--rm", "--network", "none", *as_asked(PODS[name], container, tmp_path), IMAGE, *container["args"], "--help")
    assert f"hopline {container['args'][0]}" in done.stdout


def test_the_agent_answers_its_probes(agent: Running, namespace: str) -> None:
    pod: dict[str, Any] = PODS["hopline-agent"]["containers"][0]
    for probe in ("livenessProbe", "readinessProbe"):
        assert get(namespace, pod[probe]["httpGet"]["path"])[0] == 200
    status, metrics = get(namespace, "/metrics")
    assert status == 200
    assert "hopline_recordings_running" in metrics


def test_the_agent_records_with_the_rights_that_it_has(agent: Running, namespace: str, tmp_path: Path, hopline: Hopline) -> None:
    agent("agent", "start", "one", "--", "--probes", "packets", "--duration", "60s")
    recording = tmp_path / "bundles" / "one"
    until(lambda: '"event": "recording"' in (recording / "progress").read_text())
    subprocess.run(["ip", "netns", "exec", namespace, sys.executable, "-c", TRAFFIC], check=True)
    agent("agent", "stop", "one")
    counts = json.loads((recording / "bundle" / "node-a.recording.json").read_text())["packets"]["all"]
    assert counts["seen"] == counts["written"] > CONNECTIONS
    assert counts["dropped"] == 0
    lines = hopline("trace", recording / "bundle", "--l4-only", "--json").out.splitlines()
    servers = [json.loads(line)["server"]["address"] for line in lines]
    assert servers.count("127.0.0.1:8080") == CONNECTIONS
