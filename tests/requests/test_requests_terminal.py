"""The table of requests: fits any screen, never cuts what a request is called by, and nothing in it steers the terminal."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLES
from framed import records_of
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from analysis.explain import Story
from analysis.latency import SHARES
from analysis.layout import short, table
from analysis.request_table import request_table, style_of, time_went
from analysis.storyboard import draw_story
from analysis.terminal import WIDE, duration, plain, what

Record = dict[str, Any]
SECOND = 1_000_000_000
WIDTHS = [80, 81, 99, 100, 119, 120, 139, 140, 180, 220]


@cache
def shown(width: int, name: str = "iptables") -> list[str]:
    return rendered(records_of(SAMPLES / name)[1], width)


def rendered(records: list[Record], width: int) -> list[str]:
    depths: dict[str, int] = {}
    for record in records:
        depths[record["id"]] = 0 if record["parent"] is None else depths.get(record["parent"], 0) + 1
    return [*table(*request_table(records, depths, records[0]["start_ns"], wide=width >= WIDE), Console(width=width))]


def ids(lines: list[str]) -> list[str]:
    """The first word of each row."""
    return [line.split()[0] for line in lines[2:]]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_fits(width: int, sample: Path) -> None:
    records = records_of(sample)[1]
    lines = shown(width, sample.name)
    assert max(cell_len(line) for line in lines) <= width
    assert ids(lines) == [record["id"] for record in records]
    for record, line in zip(records, lines[2:], strict=True):
        assert record["status"] in line, "what failed is never cut"


def test_what_was_seen_at_one_moment_only_took_nobody_knows_how_long() -> None:
    whole = records_of(SAMPLES / "iptables")[1][0]
    once = {"total_ns": None, "server_ns": None, "shares": dict.fromkeys(SHARES, 0)}
    record = whole | {"end_ns": whole["start_ns"], "latency": whole["latency"] | once}
    out = Console(width=180)
    with out.capture() as captured:
        draw_story(out, Story(record, 0, 0, []), record["start_ns"])
    for text in (rendered([record], 180)[2], captured.get()):
        assert "?" in text
        assert "0 ns" not in text
        assert "spent by" not in text


def test_a_service_that_is_only_a_name_has_no_port() -> None:
    service = {"namespace": "shop", "name": "mail", "port": None, "via": "ExternalName"}
    assert [what({"service": service}, brief=brief) for brief in (False, True)] == ["shop/mail ExternalName", "mail"]


HOSTILE = (
    "\x1b[2J\x1b[31mGET /",
    "GET /\r\nr1 fake",
    "\u202egnp.exe",
    "a\x00b",
    "[red]GET[/red]",
    "GET /" + "漢字" * 50,
    "\ud800",
    "\x9b31m",
    "👩‍👩‍👧‍👦" * 9,
)


@pytest.mark.parametrize("width", [80, 140, 220])
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_in_an_operation_steers_the_terminal(hostile: str, width: int) -> None:
    record = records_of(SAMPLES / "iptables")[1][0]
    owner = {"kind": "pod", "namespace": hostile, "name": hostile, "address": hostile, "node": hostile, "container": None}
    service = {"namespace": hostile, "name": hostile, "port": hostile, "via": "ClusterIP"}
    bad = record | {"operation": hostile, "status": hostile[:9], "client": owner, "server": owner, "service": service}
    lines = rendered([bad, record | {"id": "r2"}], width)
    assert ids(lines) == ["r1", "r2"]
    text = "".join(lines)
    assert not any(ord(character) < 32 or character in "\x7f\x9b\u202e\x00\ud800" for character in text)
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_request_is_called_by_is_never_cut(width: int) -> None:
    """A long capture of many requests, with statuses as long as they come: names give way."""
    records = records_of(SAMPLES / "iptables")[1][3:8]
    statuses = ["200", "DEADLINE_EXCEEDED", "error 42P01", "FAILED_PRECONDITION", "NXDOMAIN"]
    last = [
        record | {"id": f"r12345{number}", "parent": None, "status": status, "start_ns": record["start_ns"] + 3600 * SECOND}
        for number, (record, status) in enumerate(zip(records, statuses, strict=True))
    ]
    lines = rendered([records[0] | {"id": "r1", "parent": None}, *last], width)
    assert max(cell_len(line) for line in lines) <= width
    assert ids(lines) == ["r1", *(record["id"] for record in last)]
    for record, line in zip(last, lines[3:], strict=True):
        assert duration(record["latency"]["total_ns"]) in line
        assert f"+{(record['start_ns'] - records[0]['start_ns']) / 1e9:.3f}s" in line
        assert record["status"] in line or (len(record["status"]) > 12 and width < 150)


@given(st.text(), st.integers(5, 40))
def test_what_is_shortened_fits(text: str, width: int) -> None:
    made = short(plain(text), width)
    assert cell_len(made) <= width
    assert made == plain(text) or "…" in made


def test_deep_trees_are_drawn_as_far_as_there_is_room() -> None:
    record = records_of(SAMPLES / "iptables")[1][0]
    deep = [record | {"id": f"r{n}", "parent": f"r{n - 1}" if n > 1 else None} for n in range(1, 40)]
    for width in (80, 140):
        lines = rendered(deep, width)
        assert max(cell_len(line) for line in lines) <= width
        assert ids(lines) == [record["id"] for record in deep]


@pytest.mark.parametrize(
    ("status", "style"),
    [("200", "green"), ("301", "green"), ("404", "yellow"), ("500", "red"), ("503", "red"), ("NXDOMAIN", "yellow"), ("SERVFAIL", "red"),
     ("error 1146", "red"), ("ok", "green"), ("OK", "green"), ("UNAVAILABLE", "red"), ("refused", "red")],
)  # fmt: skip
def test_what_failed_is_red(status: str, style: str) -> None:
    assert style_of(status) == style


@pytest.mark.parametrize(
    ("latency", "text"),
    [
        (
            {"shares": dict.fromkeys(SHARES, 0) | {"server": 61, "network": 39}, "total_ns": 100, "server_ns": 61},
            "server 61 %, network 39 %",
        ),
        ({"shares": dict.fromkeys(SHARES, 0) | {"server": 999, "dns": 1}, "total_ns": 1000, "server_ns": 61}, "server 100 %"),
        ({"shares": dict.fromkeys(SHARES, 0) | {"unknown": 9}, "total_ns": 9, "server_ns": None}, ""),
        ({"shares": dict.fromkeys(SHARES, 0), "total_ns": 0, "server_ns": None}, ""),
        ({"shares": None, "total_ns": 9, "server_ns": 812}, "at the server 812 ns"),
        ({"shares": None, "total_ns": 9, "server_ns": None}, ""),
    ],
)
def test_where_time_went_in_words(latency: Record, text: str) -> None:
    assert time_went({"latency": latency}) == text
