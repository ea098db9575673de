"""An API server's list and watch, in memory, over real HTTP, with faults to order; and what a watch recorded."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probes.schema import Problem
from tracer.live import RESOURCES, Api, ClusterError, watch
from tracer.live.api import Backoff

CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[3] / "shared" / "captures")
ROOT = Path(__file__).parents[2]
GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"  # not served
PODS, SERVICES = "/api/v1/pods", "/api/v1/services"
PATHS = {resource.kind: resource.path() for resource in RESOURCES}

PATIENCE_SECONDS = 60.0  # of tests, with a machine that is busy; less than a watch's with a server that says nothing

Fault = Callable[["Handler", dict[str, str]], None]


class Server:
    """An API server's list and watch, in memory. `faults[(path, verb)]` are what the next requests get instead of an answer."""

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler] | None = None) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {path: {} for path in PATHS.values() if GATEWAY_API not in path}
        self.events: dict[str, list[tuple[int, str, dict[str, Any]]]] = defaultdict(list)
        self.faults: dict[tuple[str, str], deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, dict[str, str], str | None]] = []
        self.version = 100
        self.page: int | None = None
        self.changed = threading.Condition()
        self.closing = False
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler or Handler)
        self.http.daemon_threads = True
        self.http.state = self  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.http.shutdown()
        self.http.server_close()

    def put(self, item: dict[str, Any], *, silent: bool = False) -> None:
        """Create or change an object; `silent`: in a way that no watch will ever be told of."""
        with self.changed:
            self.version += 1
            path, uid = PATHS[item["kind"]], item["metadata"]["uid"]
            item["metadata"]["resourceVersion"] = str(self.version)
            how = "MODIFIED" if uid in self.objects[path] else "ADDED"
            self.objects[path][uid] = item
            if not silent:
                self.events[path].append((self.version, how, item))
            self.changed.notify_all()

    def delete(self, item: dict[str, Any], *, silent: bool = False) -> None:
        with self.changed:
            self.version += 1
            path = PATHS[item["kind"]]
            self.objects[path].pop(item["metadata"]["uid"], None)
            last = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
            if not silent:
                self.events[path].append((self.version, "DELETED", last))
            self.changed.notify_all()

    def asked(self, path: str, verb: str) -> list[dict[str, str]]:
        return [query for _, where, query, _ in self.requests if where == path and ("watch" in query) == (verb == "watch")]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "test"

    def log_message(self, *_: object) -> None:
        pass

    @property
    def state(self) -> Server:
        return self.server.state  # type: ignore[attr-defined,no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.any
        raise AttributeError(name)

    def any(self) -> None:
        where, _, text = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(text))
        state, verb = self.state, "watch" if "watch" in query else "continue" if "continue" in query else "list"
        state.requests.append((self.command, where, query, self.headers.get("Authorization")))
        waiting = state.faults[where, verb]
        fault = waiting.popleft() if waiting else state.always.get(where)
        try:
            if fault is not None:
                fault(self, query)
            elif where not in state.objects:
                self.status(404)
            elif verb == "watch":
                self.watch(where, query)
            else:
                self.list(where, query)
        except OSError:
            self.close_connection = True

    def body(self, content: dict[str, Any], code: int = 200, **headers: str) -> None:
        raw = json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def status(self, code: int, **headers: str) -> None:
        self.body(refusal(code), code, **headers)

    def list(self, where: str, query: dict[str, str]) -> None:
        state = self.state
        with state.changed:
            items = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in state.objects[where].values()]
            version = str(state.version)
        begin = int(query.get("continue", "0"))
        size = min(int(query.get("limit", "1000000")), state.page or 1_000_000) if "limit" in query else len(items) + 1
        metadata = {"resourceVersion": version} | ({"continue": str(begin + size)} if begin + size < len(items) else {})
        self.body({"kind": "SomeList", "metadata": metadata, "items": items[begin : begin + size] or None})

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def watch(self, where: str, query: dict[str, str]) -> None:
        state, sent = self.state, int(query["resourceVersion"])
        self.start_stream()
        while True:
            with state.changed:
                waiting = [event for event in state.events[where] if event[0] > sent]
                if state.closing:
                    break
                if not waiting:
                    state.changed.wait(0.2)
            for version, how, item in waiting:
                self.chunk(json.dumps({"type": how, "object": item}).encode() + b"\n")
                sent = version
        self.chunk(b"")
        self.close_connection = True


def refusal(code: int) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "message": f"no: {code}"}


def answer(code: int, **headers: str) -> Fault:
    return lambda handler, _: handler.status(code, **headers)


def streamed(*lines: bytes, end: bool = True, linger: float = 0.0) -> Fault:
    """A watch that says `lines` and then ends properly, or (`end=False`) just breaks off, after `linger` seconds."""

    def serve(handler: Handler, _: dict[str, str]) -> None:
        handler.start_stream()
        for line in lines:
            handler.chunk(line)
        time.sleep(linger)
        if end:
            handler.chunk(b"")
        handler.close_connection = True

    return serve


def line(how: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": how, "object": item}).encode() + b"\n"


def pod(name: str, address: str, version: int = 0) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "creationTimestamp": "2026-11-23T12:00:00Z", "managedFields": [{"manager": "kubelet"}]},
        "spec": {"nodeName": "node-a", "futureField": {"kept": True}},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


def fast() -> Backoff:
    return Backoff(0.01, 0.05, seed=1)


class Recording:
    """A watch under way in a thread, and what it has written."""

    def __init__(self, api: Api, **options: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.said: list[Problem] = []
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(api, options), daemon=True)
        self.thread.start()

    def _run(self, api: Api, options: dict[str, Any]) -> None:
        try:
            watch(api, lambda raw: self.lines.append(json.loads(raw)), self.said.append, self.stop, backoff=fast, **options)
        except ClusterError as error:
            self.error = error

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.events(), self.said, self.error)
            time.sleep(0.005)

    def events(self) -> list[tuple[str, str]]:
        return [(entry["type"], entry["object"]["metadata"]["name"]) for entry in self.lines]

    def end(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


def only_reads(server: Server) -> bool:
    allowed = set(PATHS.values())
    return bool(server.requests) and all(method == "GET" and where in allowed for method, where, _, _ in server.requests)
