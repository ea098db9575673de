"""An API server that also runs commands in "containers": real processes, over real WebSockets, with faults to order."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader
from websockets.utils import accept_key

from .server import PATHS, Handler, Server

OUT, ERR, STATUS = 1, 2, 3
EXEC = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/exec")
Change = Callable[[bytes], bytes | None]  # what becomes of a piece of output; None: the connection is cut there


@dataclass
class Container:
    """Where a pod's commands run: words before each command, and its environment."""

    prefix: list[str]
    environment: dict[str, str]


@dataclass
class Exec:
    """A command that somebody asked for."""

    pod: str
    command: list[str]
    protocols: str
    query: list[tuple[str, str]] = field(default_factory=list)

    @property
    def verb(self) -> str:
        return self.command[2] if len(self.command) > 2 else ""


class ClusterServer(Server):
    """`exec_faults[pod, verb]` is what becomes of the output of the next such commands, or an HTTP status instead of them."""

    def __init__(self) -> None:
        super().__init__(ClusterHandler)
        self.containers: dict[str, Container] = {}
        self.execs: list[Exec] = []
        self.exec_faults: dict[tuple[str, str], deque[Change | int]] = defaultdict(deque)
        self.protocol = "v5.channel.k8s.io"
        self.away = threading.Event()
        self.sockets: set[socket.socket] = set()
        self.created: dict[str, dict[str, Any]] = {}
        self.denied: set[str] = set()
        self.changes: list[tuple[str, str]] = []
        self.on_daemonset: Callable[[dict[str, Any]], None] = lambda _: None

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """From now on."""
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)

    def go_away(self) -> None:
        """Break every connection, and take no new ones until `away` is cleared."""
        self.away.set()
        for each in list(self.sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def verbs(self, pod: str) -> list[str]:
        return [each.verb for each in self.execs if each.pod == pod]


class ClusterHandler(Handler):
    @property
    def cluster(self) -> ClusterServer:
        assert isinstance(self.state, ClusterServer)
        return self.state

    def any(self) -> None:
        cluster = self.cluster
        if cluster.away.is_set():
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        cluster.sockets.add(self.connection)
        try:
            self.route()
        finally:
            cluster.sockets.discard(self.connection)

    def route(self) -> None:
        where, _, text = self.path.partition("?")
        query = urllib.parse.parse_qsl(text, keep_blank_values=True)
        named = dict(query)
        if self.headers.get("Authorization") != "Bearer sesame":
            self.status(401)
        elif found := EXEC.fullmatch(where):
            self.exec(found[2], query)
        elif self.command in ("POST", "DELETE"):
            self.change(where)
        elif where in self.cluster.created:
            self.body(self.cluster.created[where])
        elif "labelSelector" in named:
            self.selected(where, named["labelSelector"])
        else:
            super().any()

    def selected(self, where: str, selector: str) -> None:
        """The objects of one namespace that have a label."""
        name, _, value = selector.partition("=")
        namespace, plural = where.split("/")[-2:]
        every = self.cluster.objects[next(path for path in PATHS.values() if path.endswith(f"/{plural}"))].values()
        fits = [
            item
            for item in every
            if item["metadata"].get("namespace") == namespace and (item["metadata"].get("labels") or {}).get(name) == value
        ]
        self.body({"kind": "SomeList", "metadata": {"resourceVersion": str(self.state.version)}, "items": fits})

    def change(self, where: str) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.cluster.changes.append((self.command, where))
        if where in self.cluster.denied:
            self.status(403)
            return
        if self.command == "DELETE":
            gone = self.cluster.created.pop(where, None)
            self.body(gone, 200) if gone else self.status(404)
            return
        path = f"{where}/{content['metadata']['name']}"
        if path in self.cluster.created:
            self.status(409)
            return
        item = copy.deepcopy(content) | {"status": {}}
        item["metadata"]["generation"] = 1
        self.cluster.created[path] = item
        self.body(item, 201)
        if item["kind"] == "DaemonSet":
            self.cluster.on_daemonset(item)

    def exec(self, pod: str, query: list[tuple[str, str]]) -> None:
        asked = Exec(pod, [value for name, value in query if name == "command"], self.headers.get("Sec-WebSocket-Protocol", ""), query)
        self.cluster.execs.append(asked)
        faults = self.cluster.exec_faults[pod, asked.verb]
        fault = faults.popleft() if faults else None
        container = self.cluster.containers.get(pod)
        if isinstance(fault, int) or container is None:
            self.status(fault if isinstance(fault, int) else 404)
            return
        assert self.headers["Upgrade"].lower() == "websocket"
        assert self.cluster.protocol in asked.protocols.replace(" ", "").split(",")
        self.send_response(101)
        for name, value in {
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_key(self.headers["Sec-WebSocket-Key"]),
            "Sec-WebSocket-Protocol": self.cluster.protocol,
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        Session(self.connection, container, asked.command, fault).run()


class Session:
    """A command and its connection. As under a container runtime, the command goes on where the connection breaks."""

    def __init__(self, connection: socket.socket, container: Container, command: list[str], change: Change | None) -> None:
        self._connection, self._change = connection, change
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [*container.prefix, *command], env=container.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pumps = [
            threading.Thread(target=self._pump, args=each, daemon=True)
            for each in ((OUT, self._process.stdout), (ERR, self._process.stderr))
        ]
        threading.Thread(target=self._listen, daemon=True).start()
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        self._send(Opcode.BINARY, bytes([STATUS]) + json.dumps(_status(self._process.wait())).encode())
        self._send(Opcode.CLOSE, b"\x03\xe8")  # 1000, normal closure

    def _pump(self, channel: int, pipe: Any) -> None:
        with pipe:
            while piece := pipe.read1(32 << 10):
                if channel == OUT and self._change is not None:
                    changed = self._change(piece)
                    if changed is None:
                        with contextlib.suppress(OSError):
                            self._connection.shutdown(socket.SHUT_RDWR)
                        continue
                    piece = changed
                self._send(Opcode.BINARY, bytes([channel]) + piece)

    def _send(self, opcode: Opcode, content: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(Frame(opcode, content).serialize(mask=False))

    def _listen(self) -> None:
        """Take what the client sends; clients mask (RFC 6455, section 5.1), or this fails."""
        reader = StreamReader()
        frames = Frame.parse(reader.read_exact, mask=True)
        try:
            next(frames)
            while received := self._connection.recv(4096):
                reader.feed_data(received)
                with contextlib.suppress(StopIteration):
                    next(frames)
        except OSError:
            pass


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": f"command terminated with exit code {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }  # fmt: skip


def cut_after(size_bytes: int) -> Change:
    """Break the connection after so many bytes of output."""
    left = size_bytes

    def change(piece: bytes) -> bytes | None:
        nonlocal left
        left -= len(piece)
        return piece if left >= 0 else None

    return change


def agent_pod(node: str, namespace: str = "hopline") -> dict[str, Any]:
    """The agent's pod of a node, running."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": f"hopline-agent-{node}", "namespace": namespace, "uid": f"agent-{node}", "creationTimestamp": "2026-11-23T12:00:00Z",
            "labels": {"app.kubernetes.io/name": "hopline", "app.kubernetes.io/component": "agent"},
        },
        "spec": {"nodeName": node, "hostNetwork": True, "containers": [{"name": "agent"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "agent", "ready": True, "state": {"running": {}}}]},
    }  # fmt: skip
