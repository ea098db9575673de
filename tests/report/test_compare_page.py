"""The page of `hopline compare` in a real browser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared import CONNECT, NAT_FIRST, lognormal, of, side
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from analysis.compare import Side, build, compare
from report.conftest import Look, severe
from report.test_report_hostile import EVIL


def sides(names: tuple[str, ...] = ("before", "after"), times: float = 1.5) -> list[Side]:
    found = []
    for place, name in enumerate(names):
        samples = {NAT_FIRST: lognormal(101, place), CONNECT: lognormal(101, 10 + place, times=times**place)}
        made = side(name, of(samples, 101), ("iptables", "nftables")[place % 2])
        dots = [(rules, 9000 + 17 * rules * (place + 1)) for rules in range(3, 31)]
        found.append(replace(made, positions=dots))
    return found


def write(folder: Path, some: list[Side], title: str = "before against after") -> tuple[Path, dict[str, Any]]:
    told = compare(some, level=0.95, seed=0)
    page = folder / "compare.html"
    page.write_text(build(told, some, title), encoding="utf-8")
    return page, told


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("compare"), sides())[0]


STROKES = "return [...document.querySelectorAll('#chart svg path')].map((each) => each.getAttribute('stroke'))"
CURVES = "return [1, 2].map((n) => getComputedStyle(document.documentElement).getPropertyValue(`--curve-${n}`).trim())"


def texts(driver: Chrome, selector: str) -> list[str]:
    return [each.text for each in driver.find_elements(By.CSS_SELECTOR, selector)]


def test_it_opens_without_complaint_and_fetches_nothing(page: Path, look: Look) -> None:
    driver = look(page)
    assert severe(driver) == []
    assert not driver.find_element(By.ID, "failure").is_displayed()
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


def test_the_verdict_leads_and_every_question_is_answered(look: Look, tmp_path: Path) -> None:
    page, told = write(tmp_path, sides())
    driver = look(page)
    assert texts(driver, ".verdict") == ["before is better in 2 of 4 questions; 2 do not tell them apart for sure"]
    assert driver.find_element(By.CSS_SELECTOR, ".verdict").rect["y"] < 250
    assert len(driver.find_elements(By.CSS_SELECTOR, ".pair tbody tr")) == len(told["comparisons"][0]["claims"])
    assert texts(driver, ".differs td:last-child") == ["before is better"] * 2


def test_distributions_are_overlaid_and_chosen(page: Path, look: Look) -> None:
    driver = look(page)
    choice = Select(driver.find_element(By.ID, "group"))
    assert [each.text for each in choice.options] == ["first packet through NAT (walks the rules)", "connecting: SYN to SYN-ACK"]
    shown = []
    for place in range(2):
        choice.select_by_index(place)
        label = str(driver.find_element(By.ID, "chart").get_attribute("aria-label"))
        assert label.count("median") == 2
        shown.append(label)
        assert set(driver.execute_script(CURVES)) <= set(driver.execute_script(STROKES))
    assert shown[0] != shown[1]
    assert [row.split()[:1] for row in texts(driver, "#percentiles tbody tr")] == [["before"], ["after"]]


def test_latency_stands_against_the_rules_walked(page: Path, look: Look) -> None:
    driver = look(page)
    label = driver.find_element(By.ID, "positions").get_attribute("aria-label")
    assert label == "before: 28 first packets, 28 positions; after: 28 first packets, 28 positions"
    assert len(driver.find_elements(By.CSS_SELECTOR, "#positions svg path")) > 56
    assert "rules walked" in driver.find_element(By.ID, "positions").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_small_laptop(page: Path, look: Look, scheme: str) -> None:
    driver = look(page, scheme=scheme)
    wide = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    assert severe(driver) == []


def test_sides_without_anything_in_common_make_a_page_too(look: Look, tmp_path: Path) -> None:
    some = [side("a", of({}, 0)), side("b", of({CONNECT: lognormal(11, 1)}, 11))]
    driver = look(write(tmp_path, some)[0])
    assert severe(driver) == []
    assert not driver.find_element(By.ID, "distributions").is_displayed()
    assert not driver.find_element(By.ID, "rules").is_displayed()


def test_names_stay_text(look: Look, tmp_path: Path) -> None:
    evil = tuple(EVIL[:4])
    made = [
        replace(each, measured=of({("request", evil[0]): lognormal(37, place)}, 37, (evil[1],))) for place, each in enumerate(sides(evil))
    ]
    page, _ = write(tmp_path, made, "".join(evil))
    text = page.read_text("utf-8")
    assert text.count("<script") == text.count("</script>") == 3
    driver = look(page)
    assert driver.title == "".join(evil)
    assert driver.find_elements(By.CSS_SELECTOR, "main img, main svg[onload]") == []
    assert texts(driver, ".pair th:nth-child(2)") == [evil[0]] * 3
