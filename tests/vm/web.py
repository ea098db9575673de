"""HTTP in the cluster of namespaces: nginx in pods, which log their sockets; clients that note theirs. Together: the truth."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kernel.cases import Case
from kernel.lab import Lab
from kernel.services import NAMESPACE, NODES, PODS
from kernel.traffic import FAMILIES, End, address_of, text

from .truth import Call

SERVED = ("web-a", "web-b", "lone")
PORTS = (8080, 5432)
PATIENCE_SECONDS = 120  # a translated processor, and a link that loses packets
LOG = (
    '{"token":"$arg_token","peer_address":"$remote_addr","peer_port":$remote_port,"address":"$server_addr","port":$server_port,'
    '"status":"$status"}'
)
CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format sockets escape=json '{log}';
  access_log {folder}/access.log sockets; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ {listen} location / {{ return 200 "{pod}\\n"; }} location /missing {{ return 404 "no\\n"; }} }}
}}
"""


def owner_of(place: str) -> str:
    """The owner of a place's addresses, as `truth.owner` writes it."""
    return f"{NAMESPACE}/{place}" if place in PODS else f"node:{place}" if place in NODES else "external"


@dataclass
class Web:
    """Servers that run, and every request so far."""

    lab: Lab
    folder: Path
    calls: list[Call] = field(default_factory=list)

    def connect(self, case: Case, family: int) -> None:
        """One connection of `case` that asks twice: as any program's, bound to no address, so that the kernel chooses.

        A socket that was refused forgets what it had: where that is expected, it is bound before.
        """
        target = case.end(family)
        with self.lab.socket(case.client, FAMILIES[family], socket.SOCK_STREAM) as mine:
            mine.settimeout(PATIENCE_SECONDS)
            if case.status == "refused":
                mine.bind((address_of(case.client, family), 0))
                self._begin(case, mine, target).status = "refused"
                with pytest.raises(ConnectionRefusedError):
                    mine.connect(target)
                return
            mine.connect(target)
            asking = http.client.HTTPConnection("web")
            asking.sock = mine
            for path in ("/", "/missing"):
                call = self._begin(case, mine, target)
                asking.request("GET", f"{path}?token={call.token}")
                with asking.getresponse() as answer:
                    answer.read()
                call.status = str(answer.status)

    def _begin(self, case: Case, mine: socket.socket, target: End) -> Call:
        name = case.service.name if case.service else case.named
        call = Call(
            f"t{len(self.calls) + 1:05}", case.name, owner_of(case.client), f"{NAMESPACE}/{name}" if name else None,
            text(mine.getsockname()[:2]), text(target), time.time_ns(),
        )  # fmt: skip
        self.calls.append(call)
        return call

    def settle(self) -> None:
        """Give every call what its server logged."""
        made = {call.token: call for call in self.calls}
        for pod in SERVED:
            for line in (self.folder / pod / "access.log").read_text().splitlines():
                told = json.loads(line)
                call = made[told["token"]]
                assert call.status == told["status"], f"client and server disagree: {call}, {line}"
                call.peer, call.local = text((told["peer_address"], told["peer_port"])), text((told["address"], told["port"]))
                call.server = owner_of(pod)
        assert [call for call in self.calls if call.peer is None and call.status != "refused"] == []


@contextmanager
def serving(lab: Lab, folder: Path) -> Iterator[Web]:
    """nginx in each of SERVED while the block runs."""
    with ExitStack() as running:
        for pod in SERVED:
            place = folder / pod
            place.mkdir(parents=True)
            listen = " ".join(f"listen {text((address, port))};" for address in PODS[pod].addresses for port in PORTS)
            (place / "nginx.conf").write_text(CONFIGURATION.format(folder=place, log=LOG, listen=listen, pod=pod))
            started = subprocess.Popen(lab.command(pod, "nginx", "-e", str(place / "error.log"), "-c", str(place / "nginx.conf")))
            running.callback(started.wait, PATIENCE_SECONDS)
            running.callback(started.terminate)
            _until_it_answers(lab, pod, started)
        yield Web(lab, folder)


def _until_it_answers(lab: Lab, pod: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert server.poll() is None, f"nginx in {pod} ended: {server.returncode}"
        assert time.monotonic() < deadline, f"nginx in {pod} does not answer"
        with suppress(OSError), lab.socket(pod, socket.AF_INET, socket.SOCK_STREAM) as mine:
            mine.connect((PODS[pod].addresses[0], PORTS[0]))
            return
        time.sleep(0.1)
