"""Reading dumps and watches: every form people have them in, and every way of being broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from probes.addresses import parse
from probes.schema import Problem
from tracer.cluster import Timeline, read_cluster

SECOND = 1_000_000_000
NOON = 1_795_435_200 * SECOND  # 2026-11-23T12:00:00Z


def pod(number: int, version: int = 1, address: str | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}",
            "namespace": "shop",
            "uid": f"uid-{number}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-23T12:00:00Z",
        },
        "spec": {"nodeName": "node-a", "containers": [{"name": "app"}], "volumes": [{"configMap": {"items": [{"key": "a", "path": "b"}]}}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address or f"10.244.0.{number}"}], "startTime": "2026-11-23T12:00:00Z"},
    }


def bare(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


PODS = [pod(number) for number in (2, 3, 5)]
LIST = {"apiVersion": "v1", "items": PODS, "kind": "List", "metadata": {"resourceVersion": ""}}
TYPED = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [bare(item) for item in PODS]}
OUTDATED = [{"ts": NOON / SECOND + 1, "type": "ADDED", "object": item} for item in PODS]


def names(timeline: Timeline, seconds: float = 60) -> list[str]:
    moment = NOON + round(seconds * SECOND)
    owners = [timeline.owner(parse(f"10.244.0.{number}"), moment) for number in range(2, 8)]
    return [owner.name or "" for owner in owners if owner]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


ALL = ["web-2", "web-3", "web-5"]
JSON_LINES = "".join(json.dumps(line) + "\n" for line in OUTDATED)
YAML_LIST = yaml.safe_dump(LIST)

FORMS = {
    "list.json": json.dumps(LIST, indent=4),
    "typed.json": json.dumps(TYPED),
    "lists.json": json.dumps({"kind": "NodeList", "items": []}) + "\n" + json.dumps(TYPED, indent=2),
    "array.json": json.dumps(PODS),
    "objects.json": "\n".join(json.dumps(item, indent=2) for item in PODS),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(LIST).encode(),
    "powershell.json": json.dumps(LIST).encode("utf-16"),
    "list.yaml": YAML_LIST,
    "documents.yml": "---\n" + "---\n".join(yaml.safe_dump(item) for item in PODS) + "---\n",
    "unquoted-times.yaml": YAML_LIST.replace("'2026-11-23T12:00:00Z'", "2026-11-23T12:00:00Z"),
    "typed.yaml": yaml.safe_dump(TYPED),
    "watch.jsonl": JSON_LINES,
    "kubectl-watch.jsonl": "".join(json.dumps({"type": "ADDED", "object": item}) + "\n" for item in PODS),
    "kubectl-watch-indented.json": "".join(json.dumps({"type": "ADDED", "object": item}, indent=4) + "\n" for item in PODS),
    "list.json.gz": gzip.compress(json.dumps(LIST).encode(), mtime=0),
    "members.jsonl.gz": b"".join(gzip.compress(line.encode(), mtime=0) for line in JSON_LINES.splitlines(keepends=True)),
    "list.json.zst": zstandard.ZstdCompressor().compress(json.dumps(LIST).encode()),
    "frames.jsonl.zst": b"".join(zstandard.ZstdCompressor().compress(line.encode()) for line in JSON_LINES.splitlines(keepends=True)),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_dump_is_read(name: str, tmp_path: Path) -> None:
    timeline, problems = read_cluster([written(tmp_path, name, FORMS[name])])
    assert (names(timeline), problems) == (ALL, [])


HALF_LINES = JSON_LINES.splitlines()
DUMP = json.dumps(LIST, indent=4)

BROKEN = {
    # name: (content, pods that are still read, part of the problem's text, its offset)
    "cut.json": (DUMP[: DUMP.index("web-5")], ALL[:2], "after 2 complete items", ...),
    "cut-typed.json": (json.dumps(TYPED)[:-60], ALL[:2], "after 2 complete items", ...),
    "cut-between.json": (DUMP[: DUMP.rindex("}", 0, DUMP.rindex("]"))] + "},", ALL, "after 3 complete items", ...),
    "cut.jsonl": (JSON_LINES[:-40], ALL[:2], "line 3", 3),
    "middle.jsonl": ("\n".join([HALF_LINES[0], HALF_LINES[1][:300], HALF_LINES[2]]), ["web-2", "web-5"], "line 2", 2),
    "noise.jsonl": ("\n".join([HALF_LINES[0], "error: the server is busy", *HALF_LINES[1:]]), ALL, "line 2", 2),
    "cut.yaml": (YAML_LIST[: YAML_LIST.index("web-5") + 2], ALL[:2], "all items but the last", None),
    "cut-inside.yaml": (YAML_LIST[: YAML_LIST.index("name: web-5") + 2] + ": [", ALL[:2], "breaks off at line", ...),
    "second-bad.yaml": (yaml.safe_dump(PODS[0]) + "---\na: [\n---\n" + yaml.safe_dump(PODS[1]), ALL[:2], "document is skipped", ...),
    "cut.json.gz": (gzip.compress((DUMP + " " * 5000).encode(), mtime=0)[:-30], ALL, "cut off", ...),
    "empty.json": ("", [], "empty", None),
    "no-objects.json": ("{}", [], "no Kubernetes objects", None),
    "message.json": ("Error from server (Forbidden): pods is forbidden", [], "no Kubernetes objects", None),
    "binary.json": (bytes(range(256)) * 20, [], "", ...),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_and_the_rest_is_used(name: str, tmp_path: Path) -> None:
    content, expected, what, offset = BROKEN[name]
    timeline, problems = read_cluster([written(tmp_path, name, content)])
    assert names(timeline) == expected
    assert len(problems) == 1, problems
    assert what in problems[0].what + problems[0].remedy
    assert problems[0].file == name
    assert problems[0].remedy
    assert offset is ... or problems[0].offset == offset


def test_the_place_where_a_list_breaks_off_is_a_byte_offset(tmp_path: Path) -> None:
    text = DUMP.replace("web-2", "wéb-2")
    cut = text.index("web-5")
    _, problems = read_cluster([written(tmp_path, "cluster.json", text[:cut])])
    offset = problems[0].offset
    assert offset is not None
    assert text.encode()[offset:].lstrip().startswith(b'{\n            "apiVersion"')


def test_a_file_that_cannot_be_opened_is_one_problem(tmp_path: Path) -> None:
    good = written(tmp_path, "cluster.json", DUMP)
    timeline, problems = read_cluster([tmp_path / "none.json", good])
    assert names(timeline) == ALL
    assert [problem.severity for problem in problems] == ["error"]


def test_many_bad_lines_are_counted_not_listed(tmp_path: Path) -> None:
    _, problems = read_cluster([written(tmp_path, "watch.jsonl", JSON_LINES + '{"ts": 1,\n' * 23)])
    assert len(problems) == 6
    assert "18 more" in problems[-1].what


def test_one_bad_file_does_not_hide_a_good_one(tmp_path: Path) -> None:
    paths = [written(tmp_path, name, content) for name, (content, *_) in BROKEN.items()] + [written(tmp_path, "cluster.json", DUMP)]
    assert names(read_cluster(paths)[0]) == ALL


def lines(*events: tuple[float | None, str, dict[str, Any]]) -> str:
    stamped = ({"ts": NOON / SECOND + at} if at is not None else {} for at, _, _ in events)
    return "".join(json.dumps({**stamp, "type": how, "object": item}) + "\n" for stamp, (_, how, item) in zip(stamped, events, strict=True))


def test_watch_events_end_lives_and_bookmarks_and_errors_do_not(tmp_path: Path) -> None:
    content = lines(
        (1, "ADDED", pod(2)),
        (2, "BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "9"}}),
        (3, "ERROR", {"kind": "Status", "code": 410}),
        (4.25, "DELETED", pod(2, version=9)),
    )
    timeline, problems = read_cluster([written(tmp_path, "watch.jsonl", content)])
    assert problems == []
    assert [names(timeline, moment) for moment in (0.5, 4.2, 4.3)] == [["web-2"], ["web-2"], []]


def test_watch_lines_without_times_take_them_from_their_objects(tmp_path: Path) -> None:
    deleted = pod(2, version=9)
    deleted["metadata"] |= {"deletionTimestamp": "2026-11-23T12:00:30Z", "deletionGracePeriodSeconds": 0}
    later = pod(3, version=10, address="10.244.0.2")
    later["metadata"]["creationTimestamp"] = later["status"]["startTime"] = "2026-11-23T12:00:40Z"
    content = lines((None, "ADDED", pod(2)), (None, "DELETED", deleted), (None, "ADDED", later))
    timeline, _ = read_cluster([written(tmp_path, "watch.jsonl", content)])
    assert [names(timeline, moment) for moment in (29, 31, 41)] == [["web-2"], [], ["web-3"]]


def test_our_own_snapshots_say_when_something_was_gone(tmp_path: Path) -> None:
    def snapshot(at: float, items: list[dict[str, Any]], kinds: list[str]) -> str:
        return json.dumps({"kind": "List", "hopline": {"time_ns": NOON + round(at * SECOND), "kinds": kinds}, "items": items})

    first = written(tmp_path, "cluster-1.json", snapshot(10, PODS, ["Pod"]))
    later = {
        "complete": (snapshot(50, PODS[1:], ["Pod"]), [ALL, ALL[1:]]),
        "other kinds": (snapshot(50, PODS[1:], ["Node"]), [ALL, ALL]),
        "cut off": (snapshot(50, PODS[1:], ["Pod"])[:-200], [ALL, ALL]),
    }
    for name, (content, expected) in later.items():
        timeline, _ = read_cluster([first, written(tmp_path, "cluster-2.json", content)])
        assert [names(timeline, moment) for moment in (40, 60)] == expected, name


def test_sources_give_the_same_timeline_in_any_order(tmp_path: Path) -> None:
    paths = [
        written(tmp_path, "a.json", DUMP),
        written(tmp_path, "b.jsonl", lines((5, "MODIFIED", pod(2, version=7, address="10.244.0.7")), (9, "DELETED", pod(3, version=8)))),
        written(tmp_path, "c.json", json.dumps({**LIST, "items": [pod(2, version=7, address="10.244.0.7"), pod(5)]})),
    ]
    answers = []
    for order in (paths, paths[::-1], [paths[1], paths[0], paths[2]]):
        timeline, _ = read_cluster(order)
        answers.append(
            [[timeline.owner(parse(f"10.244.0.{number}"), NOON + moment * SECOND) for number in (2, 3, 5, 7)] for moment in (1, 6, 10)]
        )
    assert answers[0] == answers[1] == answers[2]
    assert [[owner and owner.name for owner in row] for row in answers[0]] == [
        ["web-2", "web-3", "web-5", None],
        [None, "web-3", "web-5", "web-2"],
        [None, None, "web-5", "web-2"],
    ]


def test_problems_are_those_of_the_shared_schema(tmp_path: Path) -> None:
    _, problems = read_cluster([written(tmp_path, "x.json", "{")])
    assert all(isinstance(problem, Problem) for problem in problems)
