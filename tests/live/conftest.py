"""A server, a kubeconfig that leads to it, and watches that end with their test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracer.live import Api, connect

from .server import Recording, Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
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
