"""What the page is built from: packed records, hashes of what is vendored, words that need no script."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selenium.webdriver import Chrome

from analysis.contract import SCHEMA
from analysis.report import build
from analysis.report.columns import Packer
from report.made import requests, summary

FOLDER = ROOT / "analysis" / "report"
ASSETS = FOLDER / "assets"
Record = dict[str, Any]

KEYS = st.sampled_from(["id", "name", "of", "rows", "parts", "text"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.sampled_from(["a", "b", "", "ü", "<x>"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)
UNPACK = f"""
{(ASSETS / "columns.js").read_text()}
const read = column(arguments[0], arguments[1]);
const plain = (value) => {{
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  const found = {{}};
  for (const key in value) if (key !== 'row') found[key] = plain(value[key]);
  return found;
}};
return Array.from({{ length: arguments[2] }}, (_, row) => plain(read(row)));
"""


def without_unknown(value: Any) -> Any:
    """Unknown and missing are the same to the page."""
    if isinstance(value, dict):
        return {key: without_unknown(each) for key, each in value.items() if each is not None}
    return [without_unknown(each) for each in value] if isinstance(value, list) else value


def unpacked(chromium: Chrome, rows: list[Any], base_ns: int = 0) -> Any:
    packer = Packer(base_ns)
    packed = json.loads(json.dumps(packer.column(rows)))
    return chromium.execute_script(UNPACK, packed, packer.strings, len(rows))


@settings(max_examples=101, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(VALUES, max_size=7))
def test_what_is_packed_is_what_the_page_reads(chromium: Chrome, rows: list[Any]) -> None:
    assert without_unknown(unpacked(chromium, rows)) == without_unknown(rows)


def test_records_are_read_back_whole_with_times_from_the_first(chromium: Chrome) -> None:
    records = requests(101)
    base_ns = records[0]["start_ns"]

    def shifted(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: shifted(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [shifted(each) for each in value]
        return value - base_ns if key in ("start_ns", "end_ns", "time_ns") and value is not None else value

    assert without_unknown(unpacked(chromium, records, base_ns)) == without_unknown(shifted(records))


SPENT = f"""
{"".join((ASSETS / f"{name}.js").read_text() for name in ("words", "columns", "model", "spent"))}
read(arguments[0]);
return page.records.filter((record) => !parentOf(record)).map((record) => [record.id, spent(record)]);
"""


def test_every_nanosecond_of_a_tree_is_given_once(chromium: Chrome) -> None:
    records = requests(601)
    packer = Packer(records[0]["start_ns"])
    packed = {
        "base_ns": str(packer.base_ns),
        "count": len(records),
        "records": packer.column(records),
        "strings": packer.strings,
        "modes": {},
    }
    roots = {record["id"]: record for record in records if record["parent"] is None}
    told = dict(chromium.execute_script(SPENT, json.loads(json.dumps(packed))))
    assert told.keys() == roots.keys()
    for name, parts in told.items():
        assert sum(ns for _, _, ns in parts) == roots[name]["end_ns"] - roots[name]["start_ns"], name
        assert all(ns > 0 for _, _, ns in parts)
    assert any(kind == "again" for parts in told.values() for _, kind, _ in parts)


def test_the_page_is_the_same_for_the_same_records() -> None:
    records = requests(101)
    assert build(records, summary(records), "x") == build(iter(records), summary(records), "x")


def test_made_records_have_every_field_of_the_contract() -> None:
    for record in requests(101):
        assert set(SCHEMA["required"]) <= set(record)


def test_vendored_files_are_the_published_ones() -> None:
    said = dict(re.findall(r"^\| `([\w./-]+)` .*`([0-9a-f]{64})` \|$", (FOLDER / "vendor" / "README.md").read_text(), re.MULTILINE))
    found = {
        path.relative_to(FOLDER / "vendor").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (FOLDER / "vendor").rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert said == found
    assert {Path(name).name for name in found} >= {"LICENSE", "NOTICE"}


def test_the_policy_allows_the_two_scripts_and_nothing_else() -> None:
    records = requests(11)
    page = build(records, summary(records), "x")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    own = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[-1]
    library = gzip.decompress(base64.b64decode(re.findall(r'<script id="echarts"[^>]*>(.*?)</script>', page)[0]))
    for script in (own.encode(), library):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    (allowed,) = re.findall(r"script-src ([^;]*)", policy)
    assert len(allowed.split()) == 2
    assert "default-src 'none'" in policy


def test_every_asset_is_in_the_page() -> None:
    from analysis.report.page import SCRIPTS  # noqa: PLC0415

    assert {path.stem for path in ASSETS.glob("*.js")} == set(SCRIPTS)


def test_assets_name_no_address_outside() -> None:
    for path in ASSETS.iterdir():
        addresses = set(re.findall(r"\w+://[\w./]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name  # a namespace, which nobody fetches


@pytest.mark.parametrize("path", sorted(ASSETS.iterdir()), ids=lambda path: path.name)
def test_assets_fit_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 250


def test_words_without_a_script_are_escaped() -> None:
    records = requests(11)
    told = summary(records)
    told["problems"][0]["what"] = "<b>\x1b\ud800&"
    page = build(records, told, "<i>")
    assert "<title>&lt;i&gt;</title>" in page
    assert "&lt;b&gt;\\x1b\\ud800&amp;" in page
