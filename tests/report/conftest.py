"""Real headless Chromium, driven through selenium, and pages made for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from analysis.report import build
from report.made import requests, summary

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
PATIENCE_S = 120  # with a machine that is busy
WIDTH, HEIGHT = 1366, 768  # a small laptop
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--lang=en", f"--window-size={WIDTH},{HEIGHT}",
)  # fmt: skip
Record = dict[str, Any]
Look = Callable[..., Chrome]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def look(chromium: Chrome) -> Look:
    """Open a page at the size of a small laptop and wait until it says that it is ready."""

    def opened(page: Path, hash_: str = "", *, scheme: str = "light", width: int = WIDTH) -> Chrome:
        screen = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
        ]})  # fmt: skip
        chromium.get("about:blank")  # a new hash alone would not load the page again
        for kind in ("browser", "performance"):
            chromium.get_log(kind)  # what came before is not about this page
        chromium.get(page.as_uri() + hash_)
        WebDriverWait(chromium, PATIENCE_S, 0.02).until(
            lambda driver: driver.execute_script("return document.documentElement.dataset.ready")
        )
        return chromium

    return opened


def write(folder: Path, records: list[Record], title: str = "shop", told: Record | None = None) -> Path:
    page = folder / "report.html"
    page.write_text(build(records, told or summary(records), title), encoding="utf-8")
    return page


@pytest.fixture(scope="session")
def shop() -> list[Record]:
    return requests(601)


@pytest.fixture(scope="session")
def page(shop: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("page"), shop)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("large"), requests(10_000))


def severe(driver: Chrome) -> list[str]:
    """What the page's console complained about."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
