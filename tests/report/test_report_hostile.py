"""What packets and metadata say stays text: markup, scripts, line separators, lone surrogates and control characters do nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from report.conftest import PATIENCE_S, Look, severe, write
from report.made import requests, summary

Record = dict[str, Any]
EVIL = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "]]><img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "line\u2028separator\u2029\u0085end",
    "lone \ud800 surrogate \udfff",
    "\x00\x07\x1b[31mred\x7f\x9b2J",
    "\u202eright to left\u2066",
    "${document.title='owned'} $title {{constructor}}",
    "__proto__",
    "&lt;b&gt;&amp;#x41;",
)


def spoil(
    value: Any, evil: str, spare: frozenset[str] = frozenset({"id", "parent", "trace", "protocol", "status", "kind", "path", "direction"})
) -> Any:
    """`value` with every text replaced by `evil`, but those that say what is what."""
    if isinstance(value, dict):
        return {key: each if key in spare and isinstance(each, str) else spoil(each, evil, spare) for key, each in value.items()}
    if isinstance(value, list):
        return [spoil(each, evil, spare) for each in value]
    return evil if isinstance(value, str) else value


def poisoned() -> list[Record]:
    """Trees in which every text of a record is one of EVIL; ids stay, so that the tree does."""
    records = copy.deepcopy(requests(4 * len(EVIL)))
    for number, record in enumerate(records):
        evil = EVIL[number % len(EVIL)]
        record.update(spoil(record, evil) | {"parent_candidates": record["parent_candidates"], "problems": [evil]})
    return records


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = poisoned()
    told = summary(records)
    told["problems"] = [{"file": evil, "offset": None, "what": evil, "remedy": evil, "severity": "error"} for evil in EVIL]
    told["captures"] |= {evil: told["captures"]["node-a.pcap"] | {"node": evil} for evil in EVIL}
    told["unmatched"] |= dict.fromkeys(EVIL, 1)
    return write(tmp_path_factory.mktemp("trap"), records, "".join(EVIL), told)


def test_the_file_holds_nothing_that_ends_or_begins_a_script(trap: Path) -> None:
    text = trap.read_text("utf-8")
    assert text.count("<script") == text.count("</script>") == 3  # records, library, ours
    assert not {"\u202e", "\x00", "\x1b"} & set(text)  # a line separator is text to HTML, and the records are base64
    assert "<img" not in text
    assert "<svg" not in text


def test_hostile_text_is_inert_everywhere(trap: Path, look: Look) -> None:
    driver = look(trap)
    title = driver.title
    assert title.startswith("<script>document.title='owned'</script>")
    driver.execute_script("document.getElementById('distributions').scrollIntoView()")
    WebDriverWait(driver, PATIENCE_S).until(lambda each: each.find_elements(By.CSS_SELECTOR, "#percentiles tr"))
    for button in driver.find_elements(By.CSS_SELECTOR, "#views button"):
        button.click()
    driver.execute_script("document.querySelectorAll('.line, .node, .pod').forEach((each) => each.focus())")
    ids = driver.execute_script("return [...document.querySelectorAll('#rows .row')].map((row) => row.children[0].textContent)")
    for hash_ in ids:
        driver.execute_script("location.hash = arguments[0]", hash_)
        WebDriverWait(driver, PATIENCE_S).until(
            lambda each, wanted=hash_: each.find_element(By.CSS_SELECTOR, "#trace h2").text.startswith(wanted)
        )
    driver.execute_cdp_cmd("Page.printToPDF", {})
    assert driver.title == title
    assert driver.execute_script("return [...document.querySelectorAll('img, iframe, object, embed, form, base, link')].length") == 0
    attributes = "return [...new Set([...document.querySelectorAll('body *')].flatMap((each) => each.getAttributeNames()))]"
    assert not [name for name in driver.execute_script(attributes) if name.startswith("on")]
    assert driver.execute_script("return ({}).owned ?? null") is None
    assert severe(driver) == []


def test_hostile_text_is_shown_as_it_is(look: Look, tmp_path: Path) -> None:
    records = requests(30)
    root = next(record for record in records if record["parent"] is None)
    root["host"], root["operation"] = EVIL[1], "GET /\ud800\x1b\u202e"
    said = look(write(tmp_path, records), f"#{root['id']}").find_element(By.ID, "trace").text
    assert EVIL[1] in said
    assert r"GET /\ud800\x1b\u202e" in said


def test_the_policy_stops_a_script_that_got_in(trap: Path, look: Look) -> None:
    """Were an escape forgotten, the policy would still hold."""
    driver = look(trap)
    driver.execute_script(
        """const script = document.createElement('script');
        script.textContent = "document.body.dataset.owned = 'yes'";
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<b onclick="document.body.dataset.owned = 1">x</b>');
        document.body.lastChild.click();
        new Image().src = 'https://example.invalid/x';"""
    )
    assert driver.execute_script("return document.body.dataset.owned ?? null") is None
    assert any("Content Security Policy" in message for message in severe(driver))
