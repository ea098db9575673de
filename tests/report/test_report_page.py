"""The page in a real browser: it loads, filters, sorts, opens and prints, and a picture is a picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import CAPTURES, traced_sample
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from analysis.records import Recorder
from analysis.summary import summarise
from analysis.terminal import duration
from report.conftest import PATIENCE_S, Look, severe, write
from report.made import summary

Record = dict[str, Any]
RECORDED = [path for path in (CAPTURES / "iptables" / "short", CAPTURES / "iptables" / "failures") if path.is_dir()]
SLOWER = 10  # times as long as the page of one small shop may take (it is 3 to 4)


def shown(driver: Chrome) -> int:
    """How many rows the table says it has."""
    return int(driver.find_element(By.ID, "shown").text.split()[0].replace(",", ""))


def busy_s(driver: Chrome, page: Path, look: Look) -> float:
    """What opening a page takes of a processor, in its main thread: the same however busy others keep the machine."""
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    told = look(page).execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(float(each["value"]) for each in told if each["name"] == "TaskDuration")


def column(driver: Chrome, number: int) -> list[str]:
    """The texts of one column of the rows in sight, from above."""
    script = "return [...document.querySelectorAll('#rows .row')].map((row) => row.children[arguments[0]].textContent)"
    texts: list[str] = driver.execute_script(script, number)
    return texts


def nanoseconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]


def is_error(record: Record) -> bool:
    """As docs/report.md says it."""
    status, protocol = record["status"], record["protocol"]
    if status in ("refused", "timeout", "reset"):
        return True
    return (protocol == "http" and int(status) >= 400) or status.startswith("error")


def tree_of(records: list[Record], root: str) -> set[str]:
    found = {root}
    for record in records:  # children come after parents
        if record["parent"] in found:
            found.add(record["id"])
    return found


def see_chart(driver: Chrome) -> None:
    """Scroll to the chart and wait for it: its library is unpacked only then."""
    driver.execute_script("document.getElementById('distributions').scrollIntoView()")
    WebDriverWait(driver, PATIENCE_S).until(lambda each: each.find_elements(By.CSS_SELECTOR, "#chart svg"))


def test_ten_thousand_requests_open_fast_and_small(page: Path, large: Path, look: Look, chromium: Chrome) -> None:
    assert large.stat().st_size < 4_000_000
    rounds = [[busy_s(chromium, each, look) for each in (page, large)] for _ in range(3)]
    few, many = map(min, zip(*rounds, strict=True))
    assert 0 < many < SLOWER * few
    driver = look(large)
    assert shown(driver) >= 10_000
    assert len(driver.find_elements(By.CSS_SELECTOR, "#rows .row")) < 60  # the others are not elements
    assert severe(driver) == []


def test_nothing_is_fetched(page: Path, look: Look) -> None:
    driver = look(page)
    see_chart(driver)
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


def test_connections_make_a_page_too(sample: Path, look: Look, tmp_path: Path) -> None:
    trace = traced_sample(sample)
    found = list(Recorder(trace))
    driver = look(write(tmp_path, found, sample.name, summarise(trace)), f"#{found[-1]['id']}")
    assert severe(driver) == []
    assert shown(driver) == len(found)
    assert driver.find_element(By.CSS_SELECTOR, "#trace[open] h2").text.startswith(found[-1]["id"])
    hops = driver.find_elements(By.CSS_SELECTOR, "#trace .hops tbody tr:not(.between) td:first-child")
    assert [cell.text for cell in hops] == [hop["node"] for hop in found[-1]["hops"]]


@pytest.mark.skipif(not RECORDED, reason=f"no recorded captures at {CAPTURES} (set HOPLINE_CAPTURES)")
@pytest.mark.parametrize("bundle", RECORDED, ids=lambda path: path.name)
def test_recorded_captures_make_a_page(bundle: Path, look: Look, tmp_path: Path) -> None:
    trace = traced_sample(bundle)
    found = list(Recorder(trace))
    driver = look(write(tmp_path, found, bundle.name, summarise(trace)))
    assert severe(driver) == []
    assert shown(driver) == len(found)


UNKNOWN: dict[str, list[Any]] = {
    **{key: [None] for key in ("client", "server", "service", "original", "translated", "operation", "host", "ingress", "unread", "ports")},
    "latency": [None, {"total_ns": None, "network_ns": None, "server_ns": None, "self_ns": None, "uncertainty_ns": None, "parts": []}],
    **{key: [[], None] for key in ("hops", "translations", "losses", "policies", "problems", "evidence", "parent_candidates")},
    **{key: [None] for key in ("handshake_ns", "bytes", "packets", "parent_confidence", "connection")},
}


def test_whatever_is_unknown_the_page_stands(shop: list[Record], look: Look, tmp_path: Path) -> None:
    random = Random(11)
    records = [dict(record) for record in shop]
    for record in records:
        for key in random.sample(sorted(UNKNOWN), 5):
            record[key] = random.choice(UNKNOWN[key])
            if random.random() < 0.3:
                del record[key]
    driver = look(write(tmp_path, records))
    assert shown(driver) == len(records)
    see_chart(driver)
    for button in driver.find_elements(By.CSS_SELECTOR, "#views button"):
        button.click()
    driver.execute_script("document.querySelectorAll('.line, .node, .pod').forEach((each) => each.focus())")
    for record in records[::7]:
        driver.execute_script("location.hash = arguments[0]", record["id"])
        wanted = record["id"]
        WebDriverWait(driver, PATIENCE_S).until(
            lambda each, wanted=wanted: each.find_element(By.CSS_SELECTOR, "#trace h2").text.startswith(wanted)
        )
    assert severe(driver) == []


def test_no_records_are_said(look: Look, tmp_path: Path, shop: list[Record]) -> None:
    driver = look(write(tmp_path, [], "nothing", summary(shop)))
    assert severe(driver) == []
    assert shown(driver) == 0


def test_a_service_that_is_only_a_name_has_no_port(look: Look, tmp_path: Path, shop: list[Record]) -> None:
    service = {"namespace": "shop", "name": "mail", "port": None, "via": "ExternalName"}
    driver = look(write(tmp_path, [record | {"service": service} for record in shop[:20]]), f"#{shop[0]['id']}")
    text = driver.find_element(By.TAG_NAME, "body").text
    assert "mail" in text
    assert "null" not in text


def test_it_leads_with_what_was_not_seen(page: Path, look: Look) -> None:
    driver = look(page)
    unseen, headline = (driver.find_element(By.ID, name) for name in ("unseen", "headline"))
    assert unseen.rect["y"] + unseen.rect["height"] <= headline.rect["y"] < 400
    assert "101 packets dropped by the capture itself" in unseen.text
    assert "the last packet is cut off" in unseen.text


def test_the_slowest_request_leads(page: Path, shop: list[Record], look: Look) -> None:
    roots = [r for r in shop if r["parent"] is None and r["protocol"] != "tls"]
    slowest = max(roots, key=lambda record: record["latency"]["total_ns"])
    first = look(page).find_element(By.CSS_SELECTOR, "#slowest li a")
    assert str(first.get_attribute("href")).endswith(f"#{slowest['id']}")
    assert first.text.startswith(duration(slowest["latency"]["total_ns"]))
    assert slowest["client"]["address"].rpartition(":")[0] in first.text


def test_filters_choose_rows(page: Path, shop: list[Record], look: Look) -> None:
    driver = look(page)
    search = driver.find_element(By.ID, "search")
    search.send_keys("Mysql items")
    said = [f"{r['operation']} {r['server'] and r['server']['name']} {r['service']['name']}".lower() for r in shop]
    assert shown(driver) == sum("mysql" in text and "items" in text for text in said) > 0
    driver.find_element(By.ID, "clear").click()
    for name, value, wanted in (
        ("protocol", "dns", lambda r: r["protocol"] == "dns"),
        ("status", "NXDOMAIN", lambda r: r["status"] == "NXDOMAIN"),
        ("service", "shop/redis:6379", lambda r: r["service"]["name"] == "redis"),
        ("pod", "shop/mysql-0", lambda r: r["server"] is not None and r["server"]["name"] == "mysql-0"),
        (
            "node",
            "node-c",
            lambda r: "node-c" in {*((r[e] or {}).get("node") for e in ("client", "server")), *(t["node"] for t in r["translations"])},
        ),
    ):
        Select(driver.find_element(By.ID, f"only-{name}")).select_by_value(value)
        assert shown(driver) == sum(map(wanted, shop)) > 0, name
        driver.find_element(By.ID, "clear").click()
    driver.find_element(By.ID, "only-errors").click()
    assert shown(driver) == sum(map(is_error, shop)) > 0
    assert severe(driver) == []


def test_only_slow_is_the_slowest_of_each_protocol(page: Path, shop: list[Record], look: Look) -> None:
    driver = look(page)
    driver.find_element(By.ID, "only-slow").click()
    assert 0.04 * len(shop) < shown(driver) < 0.08 * len(shop)


def test_sorting_goes_both_ways(page: Path, look: Look) -> None:
    driver = look(page)
    totals = [nanoseconds(text) for text in column(driver, 7)]
    assert totals == sorted(totals, reverse=True)
    driver.find_element(By.XPATH, "//*[@id='heads']//button[text()='Total']").click()
    totals = [nanoseconds(text) for text in column(driver, 7)]
    assert totals == sorted(totals)
    assert driver.find_element(By.CSS_SELECTOR, "[aria-sort=ascending]").text.startswith("Total")
    driver.find_element(By.XPATH, "//*[@id='heads']//button[text()='Operation']").click()
    operations = column(driver, 3)
    assert operations == sorted(operations)


def test_a_line_of_the_picture_filters_the_table(page: Path, shop: list[Record], look: Look) -> None:
    driver = look(page)
    line = driver.find_element(By.CSS_SELECTOR, '.line[aria-label^="api to mysql through mysql:3306 ClusterIP"]')
    line.send_keys(Keys.ENTER)
    assert shown(driver) == sum(r["service"]["name"] == "mysql" for r in shop)
    driver.find_element(By.CSS_SELECTOR, "#picked button").click()
    assert shown(driver) == len(shop)
    box = driver.find_element(By.CSS_SELECTOR, '.pod[aria-label^="redis-0"]')
    box.send_keys(Keys.ENTER)
    assert shown(driver) == sum(r["service"]["name"] == "redis" for r in shop)


def test_the_picture_names_ports_and_nat(page: Path, look: Look) -> None:
    driver = look(page)
    words = driver.find_element(By.CSS_SELECTOR, "#picture-room svg").get_attribute("textContent") or ""
    assert "30080→80→http→80" in words
    assert "dnat+snat, 3 nodes" in words
    driver.execute_script("document.querySelector('.line[aria-label^=outside]').focus()")
    tip = driver.find_element(By.ID, "tip").text
    assert "nodePort 30080 → port 80 → targetPort http → containerPort 80" in tip
    assert re.search(r"dnat\+snat on node-[abc]: \d+", tip)


def test_keys_open_move_and_close_a_waterfall(page: Path, shop: list[Record], look: Look) -> None:
    driver = look(page)
    body = driver.find_element(By.TAG_NAME, "body")
    body.send_keys("/")
    assert driver.switch_to.active_element.get_attribute("id") == "search"
    driver.execute_script("document.getElementById('grid').focus()")
    driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    chosen = column(driver, 0)[2]
    assert driver.current_url.endswith(f"#{chosen}")
    root = next(r["trace"].replace("t", "r") for r in shop if r["id"] == chosen)
    spans = driver.find_elements(By.CSS_SELECTOR, "#trace .span")
    assert len(spans) == len(tree_of(shop, root)) > 1
    before = [span.get_attribute("aria-selected") for span in spans]
    driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN if before[0] == "true" else Keys.ARROW_UP)
    after = [span.get_attribute("aria-selected") for span in driver.find_elements(By.CSS_SELECTOR, "#trace .span")]
    assert abs(before.index("true") - after.index("true")) == 1
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not driver.find_elements(By.CSS_SELECTOR, "#trace[open]")
    assert "#" not in driver.current_url


def test_a_link_leads_to_one_request(page: Path, shop: list[Record], look: Look) -> None:
    asked = next(r for r in shop if r["protocol"] == "mysql" and r["translations"] and r["parent"])
    driver = look(page, f"#{asked['id']}")
    said = driver.find_element(By.ID, "trace").text
    assert asked["operation"] in said
    assert f"{asked['original']['src']} > {asked['original']['dst']}" in said
    assert f"DNAT on {asked['translations'][0]['node']} (isn, conntrack)" in said
    frame = asked["hops"][0]
    assert f"{frame['file']} #{frame['frame']}" in said
    assert f"confidence {asked['parent_confidence']}" in said
    parts = driver.find_elements(By.CSS_SELECTOR, "#trace .selected .part.server")
    assert parts


def test_doubt_is_shown(page: Path, shop: list[Record], look: Look) -> None:
    doubtful = next(r for r in shop if r["parent_candidates"])
    driver = look(page, f"#{doubtful['id']}")
    said = driver.find_element(By.ID, "trace").text
    assert "not told: no candidate is sure enough" in said
    for candidate in doubtful["parent_candidates"]:
        assert f"{candidate['id']} {candidate['confidence']:.2f}" in said
    apart = next(r for r in shop if any(p["separable"] is False for p in r["latency"]["parts"]))
    driver = look(page, f"#{apart['id']}")
    assert driver.find_elements(By.CSS_SELECTOR, "#trace .selected .unseparable")
    assert "not separable" in driver.find_element(By.ID, "trace").text


@pytest.mark.parametrize("view", ["hop kind", "Service", "node pair", "kube-proxy mode"])
def test_distributions_say_how_many_samples(view: str, page: Path, shop: list[Record], look: Look) -> None:
    driver = look(page)
    see_chart(driver)
    driver.find_element(By.XPATH, f"//*[@id='views']/button[text()='by {view}']").click()
    rows = [row.text for row in driver.find_elements(By.CSS_SELECTOR, "#percentiles tbody tr")]
    assert rows
    assert driver.find_elements(By.CSS_SELECTOR, "#chart svg path")
    if view == "Service":
        redis = [r["latency"]["total_ns"] for r in shop if r["service"]["name"] == "redis"]
        assert any(row.startswith(f"shop/redis {len(redis)} ") for row in rows)
    if view == "hop kind":
        assert any(row.startswith("hop across NAT") for row in rows)
        assert "smaller than the clocks" in driver.find_element(By.ID, "chart-words").text
    assert severe(driver) == []
