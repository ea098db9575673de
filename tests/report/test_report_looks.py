"""What the page looks like: contrast, dark, narrow, on paper; and a picture that is not empty."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from report.conftest import Look

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash_", ["", "#r17"])
def test_every_text_has_contrast(scheme: str, hash_: str, page: Path, look: Look) -> None:
    driver = look(page, hash_, scheme=scheme)
    seen, poor = driver.execute_script(CONTRAST)
    assert seen > 200
    assert poor == []


def test_dark_is_dark(page: Path, look: Look) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    light, dark = (look(page, scheme=scheme).execute_script(background) for scheme in ("light", "dark"))
    assert min(map(int, re.findall(r"\d+", light))) > 200
    assert max(map(int, re.findall(r"\d+", dark))) < 60


def test_nothing_is_wider_than_a_laptop(page: Path, look: Look) -> None:
    driver = look(page)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert driver.execute_script("const room = document.getElementById('picture-room'); return room.scrollWidth <= room.clientWidth")


def colourful(driver: Chrome) -> int:
    """Pixels of the picture that are neither grey nor nearly so: lines are coloured, boxes and text are not."""
    driver.execute_script("document.getElementById('picture').scrollIntoView({ behavior: 'instant' })")
    box = driver.execute_script(
        "const { x, y, right, bottom } = document.getElementById('picture-room').getBoundingClientRect(); return [x, y, right, bottom]"
    )
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB").crop(tuple(map(int, box)))
    counted = shot.getcolors(shot.width * shot.height) or []
    return sum(times for times, (red, green, blue) in counted if max(red, green, blue) - min(red, green, blue) > 40)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_is_not_empty(scheme: str, page: Path, look: Look) -> None:
    driver = look(page, scheme=scheme)
    assert colourful(driver) > 5000
    driver.execute_script("document.querySelectorAll('.line, .words').forEach((each) => each.remove())")
    assert colourful(driver) < 500, "the count does not see lines"


def test_it_prints(page: Path, look: Look, tmp_path: Path) -> None:
    driver = look(page)
    first = str(driver.find_element(By.CSS_SELECTOR, "#slowest li a").get_attribute("hash"))[1:]
    printed = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
    assert len(driver.execute_script("return [...document.querySelectorAll('#paper .waterfall')]")) == 5
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("needs pdftotext to read what was printed (Debian: poppler-utils)")
    (tmp_path / "report.pdf").write_bytes(printed)
    said = subprocess.run([reader, "-layout", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert said.index("Not seen") < said.index("Who talks to whom") < said.index(f"{first} ")
    assert "What was not seen, in full" in said
