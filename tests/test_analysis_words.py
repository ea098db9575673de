"""Filters, times and what reaches a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from analysis.filters import Filters, fits, moment
from analysis.terminal import clock, duration, plain, who

FIRST_NS = 1_795_411_474_649_483_000


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("web", True),
        ("shop/web", True),
        ("we", False),
        ("we*", True),
        ("shop/*", True),
        ("shop/we*", True),
        ("*", True),
        ("other/web", False),
        ("shop", False),
        ("", False),
        ("web*", True),
        ("sho*", True),
        ("WEB", False),
    ],
)
def test_names_fit_patterns(pattern: str, fitting: bool) -> None:
    assert fits(pattern, "shop", "web") == fitting


def test_what_has_no_name_fits_nothing_but_anything() -> None:
    assert not fits("web", None, None)
    assert not Filters(service="web").accept({"service": None})
    assert Filters().accept({})


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("+0", FIRST_NS),
        ("+1.5", FIRST_NS + 1_500_000_000),
        ("+0.000000001", FIRST_NS + 1),
        ("1795411474.649483", FIRST_NS),
        ("1795411474.649483001", FIRST_NS + 1),
        ("2026-11-23T05:24:34.649483", FIRST_NS),
        ("2026-11-23T05:24:34.649483Z", FIRST_NS),
        ("2026-11-23 06:24:34.649483+01:00", FIRST_NS),
        ("+-1", FIRST_NS - 1_000_000_000),
    ],
)
def test_moments(text: str, ns: int) -> None:
    assert moment(text, FIRST_NS) == ns


@pytest.mark.parametrize("text", ["", "+", "soon", "inf", "-inf", "nan", "1e30", "+1e400", "2026-11-23T25:00", "05:24"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        moment(text, FIRST_NS)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "?"),
        (0, "0 ns"),
        (812, "812 ns"),
        (999, "999 ns"),
        (1000, "1.0 µs"),
        (4_212, "4.2 µs"),
        (13_149_999, "13.1 ms"),
        (2_004_000_000, "2.004 s"),
        (90_000_000_000, "90.000 s"),
        (-1500, "-1.5 µs"),
    ],
)
def test_durations(ns: int | None, text: str) -> None:
    assert duration(ns) == text


def test_clock() -> None:
    assert clock(FIRST_NS + 1) == "2026-11-23 05:24:34.649483Z"
    assert clock(None) == "?"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-7d9f", "web-7d9f"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\x7f", "\\x7f"),
        ("größe→", "größe→"),
    ],
)
def test_nothing_steers_the_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_what_is_shown_is_printable(text: str) -> None:
    assert not any(unicodedata.category(character)[0] == "C" for character in plain(text))
    assert cell_len(plain(text)) >= 0


def test_ends_have_words() -> None:
    pod = {"kind": "pod", "namespace": "shop", "name": "web", "address": "10.0.0.1:80"}
    assert who(pod) == "shop/web"
    assert who(pod, brief=True) == "web"
    assert who(None) == "?"
    assert who({"kind": "node", "name": None, "address": "10.0.0.1:80"}) == "node 10.0.0.1:80"
    assert who({"kind": None, "name": None, "address": "[fd00::1]:80"}, brief=True) == "[fd00::1]"
