"""The live door against a real HTTP server that lists, pages, watches, forgets, stalls, refuses and hangs up."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from analysis.commands.snapshot import snapshot as snapshot_command
from analysis.commands.watch import watch as watch_command
from probes.addresses import parse
from probes.schema import Problem
from tracer.cluster import Timeline, read_cluster
from tracer.live import RESOURCES, Api, ClusterError, connect, snapshot, watch
from tracer.live import following as following_module
from tracer.live.api import Backoff
from tracer.live.errors import DeniedError, LoginError, UnreachableError

CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[2] / "shared" / "captures")
ROOT = Path(__file__).parents[1]
PODS, SERVICES, ROUTES = "/api/v1/pods", "/api/v1/services", "/apis/gateway.networking.k8s.io/v1/httproutes"
PATHS = {resource.kind: resource.path() for resource in RESOURCES}

Fault = Callable[["Handler", dict[str, str]], None]


class Server:
    """An API server's list and watch, in memory. `faults[(path, verb)]` are what the next requests get instead of an answer."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {path: {} for path in PATHS.values() if path != ROUTES}
        self.events: dict[str, list[tuple[int, str, dict[str, Any]]]] = defaultdict(list)
        self.faults: dict[tuple[str, str], deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, dict[str, str], str | None]] = []
        self.version = 100
        self.page: int | None = None
        self.changed = threading.Condition()
        self.closing = False
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.events(), self.said, self.error)
            time.sleep(0.005)

    def events(self) -> list[tuple[str, str]]:
        return [(entry["type"], entry["object"]["metadata"]["name"]) for entry in self.lines]

    def end(self) -> None:
        self.stop.set()
        self.thread.join(5)
        assert not self.thread.is_alive()


@pytest.fixture
def record(api: Api) -> Iterator[Callable[..., Recording]]:
    started: list[Recording] = []

    def start(**options: Any) -> Recording:
        started.append(Recording(api, **options))
        return started[-1]

    yield start
    for recording in started:
        recording.end()


def only_reads(server: Server) -> bool:
    allowed = set(PATHS.values())
    return bool(server.requests) and all(method == "GET" and where in allowed for method, where, _, _ in server.requests)


# --- one moment


def test_a_snapshot_has_every_object_of_every_page_as_the_server_sent_it(server: Server, api: Api, tmp_path: Path) -> None:
    server.page = 7
    for number in range(23):
        server.put(pod(f"web-{number}", f"10.244.0.{number + 2}"))
    server.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "s"}, "spec": {}})
    said: list[Problem] = []
    taken = snapshot(api, said.append, backoff=fast())
    assert said == []  # Gateway API is not served here, which is no news
    assert len(taken.items) == 24
    assert [query.get("continue") for query in server.asked(PODS, "list")] == [None, "7", "14", "21"]
    assert taken.items[-1]["spec"]["futureField"] == {"kept": True}
    assert "managedFields" not in taken.items[-1]["metadata"]
    path = tmp_path / "cluster.json"
    path.write_text("".join(taken.text()))
    document = json.loads(path.read_text())
    assert document["hopline"]["kinds"] == ["Node", "Service", "EndpointSlice", "Deployment", "ReplicaSet", "Ingress", "Pod"]
    timeline, problems = read_cluster([path])
    assert problems == []
    owners = [timeline.owner(parse(f"10.244.0.{number + 2}"), taken.time_ns) for number in range(23)]
    assert [owner and owner.name for owner in owners] == [f"web-{number}" for number in range(23)]


def test_only_lists_and_watches_of_the_known_kinds_are_ever_asked_for(server: Server, api: Api, record: Callable[..., Recording]) -> None:
    server.put(pod("web", "10.244.0.2"))
    snapshot(api, lambda _: None)
    recording = record()
    recording.until(lambda: len([1 for _, _, query, _ in server.requests if "watch" in query]) >= 7)
    assert only_reads(server)
    assert not any("secret" in where.lower() or "configmap" in where.lower() for _, where, _, _ in server.requests)
    assert {authorisation for *_, authorisation in server.requests} == {"Bearer sesame"}


def test_an_expired_continue_token_lists_anew_in_one_piece(server: Server, api: Api) -> None:
    server.page = 2
    for number in range(5):
        server.put(pod(f"web-{number}", f"10.244.0.{number + 2}"))
    server.faults[PODS, "continue"].append(answer(410))
    taken = snapshot(api, lambda _: None)
    assert [item["metadata"]["name"] for item in taken.items] == [f"web-{number}" for number in range(5)]
    assert [("limit" in query, "continue" in query) for query in server.asked(PODS, "list")] == [
        (True, False),
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    "fault", [answer(503), answer(429, Retry_After="0"), answer(500), lambda handler, _: handler.connection.shutdown(2)]
)
def test_a_snapshot_waits_out_a_busy_server(fault: Fault, server: Server, api: Api) -> None:
    server.put(pod("web", "10.244.0.2"))
    server.faults[PODS, "list"].extend([fault, fault])
    assert len(snapshot(api, lambda _: None, backoff=fast()).items) == 1


def test_a_kind_that_is_denied_is_said_and_the_others_are_read(server: Server, api: Api) -> None:
    server.put(pod("web", "10.244.0.2"))
    server.always[PATHS["Node"]] = answer(403)
    said: list[Problem] = []
    taken = snapshot(api, said.append)
    assert [(problem.file, "403 no: 403" in problem.what) for problem in said] == [("/api/v1/nodes", True)]
    assert "list" in said[0].remedy
    assert "Node" not in taken.kinds
    assert len(taken.items) == 1


@pytest.mark.parametrize(("code", "error"), [(401, LoginError), (403, DeniedError)])
def test_where_everything_is_refused_there_is_no_snapshot(code: int, error: type[ClusterError], server: Server, api: Api) -> None:
    server.always = dict.fromkeys(PATHS.values(), answer(code))
    with pytest.raises(error) as caught:
        snapshot(api, lambda _: None)
    assert caught.value.remedy


def test_a_namespace_is_asked_for_by_its_path_and_makes_no_claim_of_completeness(server: Server, api: Api) -> None:
    server.objects = {f"/api/v1/namespaces/shop/{plural}": {} for plural in ("pods", "services")} | {"/api/v1/nodes": {}}
    said: list[Problem] = []
    taken = snapshot(api, said.append, namespace="shop")
    assert json.loads("".join(taken.text()))["hopline"].keys() == {"time_ns", "end_ns", "namespace"}
    assert {where for _, where, _, _ in server.requests} >= {"/api/v1/namespaces/shop/pods", "/api/v1/nodes"}
    assert len(said) == 4  # the kinds that this server does not have


def test_a_server_out_of_reach_is_an_error_with_a_remedy(kubeconfig: Path, server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kubeconfig.write_text(kubeconfig.read_text().replace(str(server.http.server_port), str(taken.getsockname()[1])))
        with pytest.raises(UnreachableError, match="kubeconfig"):
            snapshot(connect(kubeconfig), lambda _: None, backoff=fast())


# --- changes


def test_a_watch_reports_what_is_there_and_then_each_change(server: Server, record: Callable[..., Recording]) -> None:
    web = pod("web", "10.244.0.2")
    server.put(web)
    recording = record()
    recording.until(lambda: server.asked(PODS, "watch"))
    server.put(pod("web", "10.244.0.3"))
    server.put(pod("api", "10.244.0.4"))
    server.delete(web)
    recording.until(lambda: len(recording.lines) == 4)
    assert recording.events() == [("ADDED", "web"), ("MODIFIED", "web"), ("ADDED", "api"), ("DELETED", "web")]
    assert abs(recording.lines[0]["ts"] - time.time()) < 60
    assert recording.lines[1]["object"]["spec"]["futureField"] == {"kept": True}
    assert "managedFields" not in recording.lines[1]["object"]["metadata"]
    assert recording.said == []


def test_a_connection_that_breaks_in_mid_line_is_resumed_where_it_was(server: Server, record: Callable[..., Recording]) -> None:
    one, two = pod("one", "10.244.0.2", 105), pod("two", "10.244.0.3", 106)
    server.faults[PODS, "watch"].append(streamed(line("ADDED", one), line("ADDED", two)[:50], end=False))
    server.events[PODS] = [(105, "ADDED", one), (106, "ADDED", two)]
    recording = record()
    recording.until(lambda: len(recording.lines) == 2)
    recording.until(lambda: len(server.asked(PODS, "watch")) == 2)
    assert recording.events() == [("ADDED", "one"), ("ADDED", "two")]
    assert [query["resourceVersion"] for query in server.asked(PODS, "watch")] == ["100", "105"]
    assert len(server.asked(PODS, "list")) == 1
    assert recording.said == []


def test_an_event_in_pieces_and_events_in_one_piece_are_the_same(server: Server, record: Callable[..., Recording]) -> None:
    one, two, three = (line("ADDED", pod(name, "10.244.0.2", 105 + place)) for place, name in enumerate(("one", "two", "three")))
    server.faults[PODS, "watch"].append(streamed(one[:50], one[50:-1], one[-1:] + two + three))
    recording = record()
    recording.until(lambda: len(recording.lines) == 3)
    assert recording.events() == [("ADDED", "one"), ("ADDED", "two"), ("ADDED", "three")]


def test_a_server_that_ends_every_watch_at_once_is_not_hammered(server: Server, record: Callable[..., Recording]) -> None:
    server.always[PODS] = streamed()
    server.faults[PODS, "list"].extend([lambda handler, query: handler.list(PODS, query)] * 101)
    recording = record()
    recording.until(lambda: len(server.asked(PODS, "watch")) >= 2)
    time.sleep(0.5)
    assert len(server.asked(PODS, "watch")) < 30  # every 50 ms or more


def test_bookmarks_move_the_place_to_resume_from_and_are_asked_for(server: Server, record: Callable[..., Recording]) -> None:
    bookmark = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "777"}}
    server.faults[PODS, "watch"].append(streamed(line("BOOKMARK", bookmark)))
    recording = record()
    recording.until(lambda: len(server.asked(PODS, "watch")) == 2)
    assert [query["resourceVersion"] for query in server.asked(PODS, "watch")] == ["100", "777"]
    assert all(query["allowWatchBookmarks"] == "true" for query in server.asked(PODS, "watch"))
    assert recording.lines == []


FORGOTTEN = {
    "as status": answer(410),
    "as event": streamed(line("ERROR", refusal(410))),
}


@pytest.mark.parametrize("how", FORGOTTEN)
def test_after_410_the_new_list_is_told_as_the_events_that_were_missed(how: str, server: Server, record: Callable[..., Recording]) -> None:
    kept, changed, gone = (pod(name, f"10.244.0.{place}") for place, name in enumerate(("kept", "changed", "gone"), 2))
    for item in (kept, changed, gone):
        server.put(item)

    def forget(handler: Handler, query: dict[str, str]) -> None:
        server.put(pod("changed", "10.244.0.9"), silent=True)
        server.delete(gone, silent=True)
        server.put(pod("new", "10.244.0.4"), silent=True)
        FORGOTTEN[how](handler, query)

    server.faults[PODS, "watch"].append(forget)
    recording = record()
    recording.until(lambda: len(recording.lines) == 6)
    assert recording.events()[3:] == [("DELETED", "gone"), ("MODIFIED", "changed"), ("ADDED", "new")]
    recording.until(lambda: len(server.asked(PODS, "watch")) == 2)
    assert server.asked(PODS, "watch")[1]["resourceVersion"] == str(server.version)
    server.put(pod("after", "10.244.0.10"))
    recording.until(lambda: recording.events()[-1] == ("ADDED", "after"))
    assert recording.said == []


BROKEN_STREAMS: dict[str, Fault] = {
    "ends at once": streamed(),
    "is no JSON": streamed(b"<html>\n"),
    "is no event": streamed(b'{"type": "ADDED"}\n'),
    "is an array": streamed(b"[1]\n"),
    "too many requests": answer(429, Retry_After="0"),
    "internal error": streamed(line("ERROR", refusal(500))),
    "etcd is away": answer(503),
    "hangs up": lambda handler, _: handler.connection.shutdown(2),
}


@pytest.mark.parametrize("what", BROKEN_STREAMS)
def test_a_watch_that_fails_is_tried_again_without_spinning(what: str, server: Server, record: Callable[..., Recording]) -> None:
    server.faults[PODS, "watch"].extend([BROKEN_STREAMS[what]] * 3)
    recording = record()
    recording.until(lambda: len(server.asked(PODS, "watch")) == 4)
    server.put(pod("web", "10.244.0.2"))
    recording.until(lambda: len(recording.lines) == 1)
    assert len(server.asked(PODS, "watch")) == 4
    assert recording.said == []


def test_an_outage_that_lasts_is_said_once_and_overcome_by_a_new_list(server: Server, record: Callable[..., Recording]) -> None:
    server.always[PODS] = answer(503)
    server.faults[PODS, "list"].append(lambda handler, query: handler.list(PODS, query))
    recording = record()
    recording.until(lambda: len(server.asked(PODS, "watch")) + len(server.asked(PODS, "list")) >= 13)
    assert [problem.file for problem in recording.said] == [PODS]
    assert "caught up" in recording.said[0].remedy
    server.put(pod("web", "10.244.0.2"), silent=True)
    del server.always[PODS]
    recording.until(lambda: recording.events() == [("ADDED", "web")])


def test_a_silent_connection_is_given_up_and_resumed(
    server: Server, record: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following_module, "QUIET_SECONDS", 0.2)
    server.faults[PODS, "watch"].append(streamed(line("ADDED", pod("one", "10.244.0.2", 105)), linger=30, end=False))
    recording = record()
    recording.until(lambda: len(server.asked(PODS, "watch")) >= 2)
    assert server.asked(PODS, "watch")[1]["resourceVersion"] == "105"
    assert recording.events() == [("ADDED", "one")]


def test_a_kind_that_is_denied_is_left_out_of_the_watch(server: Server, record: Callable[..., Recording]) -> None:
    server.always[SERVICES] = answer(403)
    server.put(pod("web", "10.244.0.2"))
    recording = record()
    recording.until(lambda: server.asked(PODS, "watch"))
    assert [problem.file for problem in recording.said] == [SERVICES]
    assert server.asked(SERVICES, "watch") == []


def test_rights_taken_away_under_way_are_said_once_and_regained(server: Server, record: Callable[..., Recording]) -> None:
    server.faults[PODS, "watch"].extend([answer(403)] * 3)
    recording = record()
    recording.until(lambda: len(server.asked(PODS, "watch")) == 4)
    assert len(recording.said) == 1
    server.put(pod("web", "10.244.0.2"))
    recording.until(lambda: len(recording.lines) == 1)


def test_a_full_disk_ends_the_watch(server: Server, api: Api) -> None:
    server.put(pod("web", "10.244.0.2"))

    def write(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        watch(api, write, lambda _: None, threading.Event())


def test_stopping_does_not_wait_for_the_server(server: Server, record: Callable[..., Recording]) -> None:
    recording = record()
    recording.until(lambda: len([1 for _, _, query, _ in server.requests if "watch" in query]) >= 7)
    began = time.monotonic()
    recording.end()
    assert time.monotonic() - began < 3


def test_delays_grow_up_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff(1.0, 8.0, seed=3)
    delays = [backoff.seconds() for _ in range(6)]
    assert all(base <= delay <= 2 * base for base, delay in zip((1, 2, 4, 8, 8, 8), delays, strict=True))
    backoff.reset()
    assert backoff.seconds() <= 2.0


def questions(timeline: Timeline, moments: list[int]) -> list[object]:
    asked: list[object] = []
    for moment in moments:
        asked += [timeline.owner(parse(f"10.244.{net}.{host}"), moment) for net in range(3) for host in range(10)]
        asked += [timeline.service(parse(address), 80, "tcp", moment) for address in ("10.96.10.1", "10.96.20.1", "172.30.0.240")]
        for name in ("web", "api", "echo", "web-headless"):
            found = timeline.endpoints("demo", name, "http", "tcp", moment)
            asked.append(sorted((e.address, e.pod or "", e.ready, e.terminating) for e in found))
    return asked


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are not here (HOPLINE_CAPTURES)")
def test_what_a_watch_recorded_gives_the_same_names_as_its_source(server: Server, record: Callable[..., Recording], tmp_path: Path) -> None:
    folder = CAPTURES / "iptables" / "churn"
    events = [json.loads(text) for text in (folder / "watch.jsonl").read_text().splitlines()]
    for item in json.loads((folder / "cluster-start.json").read_text())["items"]:
        server.objects[PATHS[item["kind"]]][item["metadata"]["uid"]] = item
    server.version = 405
    now = [round((events[0]["ts"] - 1) * 1e6) * 1000]
    server.faults[PODS, "watch"].extend([streamed(), answer(503)])
    recording = record(clock=lambda: now[0])
    recording.until(lambda: len(server.asked(PODS, "watch")) >= 3)
    initial = len(recording.lines)
    for number, source in enumerate(events, 1):
        now[0] = round(source["ts"] * 1e6) * 1000
        with server.changed:
            item = source["object"]
            server.events[PATHS[item["kind"]]].append((int(item["metadata"]["resourceVersion"]), source["type"], item))
            server.changed.notify_all()
        recording.until(lambda: len(recording.lines) == initial + number)  # noqa: B023
    recording.end()
    path = tmp_path / "watch.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in recording.lines))
    again, problems = read_cluster([path])
    source_timeline, _ = read_cluster([folder / "cluster-start.json", folder / "watch.jsonl"])
    assert problems == []
    moments = [round((1795415109 + step * 0.101) * 1e9) for step in range(101)]
    assert questions(again, moments) == questions(source_timeline, moments)


# --- the commands


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
    assert result.stderr.startswith("error: ")
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
        deadline = time.monotonic() + 30
        while not server.asked(PODS, "watch") and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        server.put(pod("api", "10.244.0.3"))
        while path.read_bytes().count(b"\n") < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert [json.loads(text)["type"] for text in path.read_text().splitlines()] == ["ADDED", "ADDED"]
    assert "2 events" in errors
