"""A server, a kubeconfig that leads to it, watches that end with their test; a road through NAT for a module's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.lab import missing

from tracer.live import Api, connect

from .cluster_server import ClusterServer
from .collected import Cluster
from .road import Road, road
from .server import Recording, Server


@pytest.fixture(scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[Road]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with road(request.module.__name__.rpartition("_")[2]) as built:
        yield built


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = ClusterServer()
    yield Cluster(running, tmp_path, write_kubeconfig(running, tmp_path))
    running.close()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    return write_kubeconfig(server, tmp_path)


def write_kubeconfig(server: Server, folder: Path) -> Path:
    path = folder / "kubeconfig"
    entry = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "sesame"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(entry))
    return path


@pytest.fixture
def api(kubeconfig: Path) -> Api:
    return connect(kubeconfig)


@pytest.fixture
def record(api: Api) -> Iterator[Callable[..., Recording]]:
    started: list[Recording] = []

    def start(**options: Any) -> Recording:
        started.append(Recording(api, **options))
        return started[-1]

    yield start
    for recording in started:
        recording.end()
