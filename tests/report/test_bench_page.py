"""The page of `hopline bench proxy` in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from proxy_benched import PLAN, told_of_two
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from analysis.proxy_bench import words
from analysis.proxy_bench.page import build
from report.conftest import Look, severe

CURVES = {"first": 6, "later": 2, "change": 2}  # lines in each picture: of two modes
LINES = """
const chart = echarts.getInstanceByDom(document.getElementById(arguments[0]));
return chart.getOption().series.map((each) => each.data.length);
"""
STROKES = "return [...document.querySelectorAll(`#${arguments[0]} svg path`)].map((each) => each.getAttribute('stroke'))"
COLOURS = "return [1, 2].map((n) => getComputedStyle(document.documentElement).getPropertyValue(`--curve-${n}`).trim())"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "modes.html"
    path.write_text(build(told_of_two(), "Modes & <more>"), encoding="utf-8")
    return path


def strokes(driver: Chrome, picture: str) -> set[str]:
    return set(driver.execute_script(STROKES, picture))


def test_it_opens_without_complaint_and_fetches_nothing(page: Path, look: Look) -> None:
    driver = look(page)
    assert severe(driver) == []
    assert not driver.find_element(By.ID, "failure").is_displayed()
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("picture", CURVES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_mode_has_its_curve_in_every_picture(page: Path, look: Look, picture: str, scheme: str) -> None:
    driver = look(page, scheme=scheme)
    points = driver.execute_script(LINES, picture)
    assert len(points) == CURVES[picture]
    assert set(points) == ({1} if picture == "change" else {len(PLAN.services)})
    assert set(driver.execute_script(COLOURS)) <= strokes(driver, picture)
    assert driver.find_element(By.ID, picture).get_attribute("aria-label")


def test_what_was_found_leads_and_every_figure_is_in_a_table(page: Path, look: Look) -> None:
    told = told_of_two()
    driver = look(page)
    assert driver.find_element(By.TAG_NAME, "h1").text == "Modes & <more>"
    assert [each.text for each in driver.find_elements(By.CSS_SELECTOR, "#said li")] == list(words.summary(told))
    assert driver.find_element(By.ID, "said").rect["y"] < 300
    rows = driver.find_elements(By.CSS_SELECTOR, "#cells tbody tr")
    assert len(rows) == len(list(words.cell_rows(told))) == 12
