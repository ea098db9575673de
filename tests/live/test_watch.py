"""Changes: watches of a server that breaks off, forgets, stalls and refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.addresses import parse
from tracer.cluster import Timeline, read_cluster
from tracer.live import Api, watch
from tracer.live import following as following_module
from tracer.live.api import Backoff

from .server import CAPTURES, PATHS, PODS, SERVICES, Fault, Handler, Recording, Server, answer, line, pod, refusal, streamed


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
    began, before = time.monotonic(), len(server.asked(PODS, "watch"))
    recording.until(lambda: len(server.asked(PODS, "watch")) >= before + 10)
    asked = len(server.asked(PODS, "watch")) - before
    assert asked < 2 + (time.monotonic() - began) / 0.025  # every 50 ms or more


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
    recording.end()  # which asserts that it ended: the server says nothing, and a watch waits for it longer than a test


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
