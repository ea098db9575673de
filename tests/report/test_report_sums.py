"""Pages that hold some connections, and sums of all: what they tell is what pages with all of them tell, within the error."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SAMPLES, Hopline
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from analysis.histograms import ERROR
from analysis.report.page import SCRIPTS
from report.conftest import Look, severe

ASSETS = ROOT / "analysis" / "report" / "assets"
ROWS = "23"
# What the picture and the distributions are drawn from; the others of SCRIPTS only draw, and the last one begins to.
TOLD = f"""
{"".join((ASSETS / f"{name}.js").read_text() for name in SCRIPTS if name != "page")}
read(arguments[0]);
gather();
const quantiles = (samples) => [0.05, 0.5, 0.9, 0.95, 0.99].map((share) => samples.quantile(share));
const views = {{}};
for (const view of VIEWS) {{
  const found = new Map();
  const add = (name, ns, separable, times) => sampled(found, `${{name}} ${{separable}}`).add(ns, times);
  for (const group of page.groups) view.each(group, add);
  for (const [name, samples] of found) views[`${{view.name}}: ${{name}}`] = [samples.size, quantiles(samples)];
}}
const lines = {{}};
for (const {{ from, to, door, count, errors, ports, nat, totals }} of picture.lines)
  lines[`${{from.key}} to ${{to.key}} by ${{door}}`] = [count, errors, [...ports].sort(), [...nat].sort(), quantiles(totals)];
const boxes = picture.boxes.map(({{ key, count, called, pods }}) => [
  key, count, called, key.startsWith('pod') ? [...pods.values()].map(({{ name, count }}) => [name, count]).sort() : null,
]).sort();
return {{ views, lines, boxes, total: page.total, word: page.word, slow: Object.fromEntries(page.slowAbove) }};
"""


def packed(page: Path) -> Any:
    """What the scripts of a page read."""
    (text,) = re.findall(r'<script id="told"[^>]*>(.*?)</script>', page.read_text("utf-8"))
    return json.loads(gzip.decompress(base64.b64decode(text)))


def same(one: Any, other: Any) -> bool:
    """Whether two things are equal but for floats and ints that stand for nearly the same time."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) <= ERROR * one
    return bool(one == other)


def test_the_picture_and_distributions_are_of_all(sample: Path, hopline: Hopline, chromium: Chrome, tmp_path: Path) -> None:
    whole, some = tmp_path / "whole.html", tmp_path / "some.html"
    for page, words in ((whole, []), (some, ["--rows", ROWS, "--partitions", "3", "--workers", "1"])):
        assert hopline("report", sample, "--l4-only", "-o", page, *words).code in (0, 1)
    assert packed(whole)["kinds"] is None
    assert packed(some)["kinds"] is not None
    assert packed(some)["count"] == int(ROWS)
    chromium.get("about:blank")
    exact, nearly = (chromium.execute_script(TOLD, packed(page)) for page in (whole, some))
    assert exact["total"] == packed(whole)["count"]
    assert same(exact, nearly)


def test_it_says_what_the_table_has(hopline: Hopline, look: Look, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert hopline("report", SAMPLES / "iptables", "--l4-only", "-o", page, "--rows", ROWS).code == 0
    driver = look(page)
    told = packed(page)
    total = sum(told["kinds"]["counts"])
    assert driver.find_element(By.ID, "shown").text == f"{ROWS} of {total:,} connections"
    assert f"Of {total:,} connections the table has {ROWS}" in driver.find_element(By.ID, "held").text
    line = driver.find_element(By.CSS_SELECTOR, ".line")
    assert re.search(r": ([\d,]+) connections", line.get_attribute("aria-label") or "")
    line.send_keys(Keys.ENTER)
    assert driver.find_elements(By.CSS_SELECTOR, "#rows .row")
    assert severe(driver) == []


def test_a_page_with_all_connections_does_not_speak_of_it(hopline: Hopline, look: Look, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert hopline("report", SAMPLES / "iptables", "--l4-only", "-o", page).code == 0
    driver = look(page)
    assert not driver.find_element(By.ID, "held").is_displayed()
    assert severe(driver) == []


@pytest.mark.parametrize("words", [["--engine", "spark", "--l4-only"], ["--engine", "dask"], ["--rows", "1", "--l4-only"]])
def test_what_cannot_be_is_said(hopline: Hopline, words: list[str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert hopline("report", SAMPLES / "iptables", "-o", page, *words).code == 2
    assert not page.exists()
