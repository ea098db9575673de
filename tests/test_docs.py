"""What the documents say is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Hopline

from analysis.contract import REQUEST_SCHEMA, SCHEMA
from analysis.frames import TABLES
from analysis.frames.kinds import HOP_KINDS
from analysis.frames.questions import MEASURES, PERCENTS
from analysis.statistics import smallest_sample
from tracer.archive import COLUMNS

ROOT = Path(__file__).parent.parent


MADE_FROM_HERE = "## requests\n"


def tables_page() -> str:
    """The columns of every table, which follow what is written by hand."""
    lines: list[str] = []
    for name, columns in TABLES.items():
        lines += [f"## {name}", "", "| column | dtype | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{column}` | {dtype} | {unit} | {meaning} |" for column, (dtype, unit, meaning) in columns.items()]
        lines.append("")
    return "\n".join(lines)


def test_the_tables_page_is_made_from_the_tables(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "tables.md"
    by_hand, _, _ = page.read_text().partition(MADE_FROM_HERE)
    if request.config.getoption("--update-golden", default=False):
        page.write_text(by_hand + tables_page())
    assert page.read_text() == by_hand + tables_page(), "run `make golden`"


def test_the_tables_page_says_what_can_be_asked() -> None:
    page = (ROOT / "docs" / "tables.md").read_text()
    for kind, (meaning, _) in HOP_KINDS.items():
        assert f"| {kind} | {meaning} |" in page
    for by, measure in MEASURES.items():
        assert re.search(rf"\| {by} \| .*\({measure.time}\) \| {', '.join(measure.keys)} \|", page), by
    needed = [str(smallest_sample(percent / 100)) for percent in PERCENTS]
    assert f"from {', '.join(needed[:-1])} and {needed[-1]} values on" in page


def test_every_column_of_an_archive_is_documented() -> None:
    page = (ROOT / "docs" / "archive.md").read_text()
    rows = [f"| `{each.name}` | {each.dtype} | {each.unit} | {each.meaning} |" for each in COLUMNS]
    assert [line for line in re.findall(r"^\| `.*$", page, re.MULTILINE) if line.count("|") == 5] == rows


def test_the_queries_of_an_archive_find_something(tmp_path: Path, hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")  # of `make bench`
    assert hopline("archive", "sample_pcaps/iptables", "-o", tmp_path / "archive", "--bucket", "10s").code == 0
    (queries,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "archive.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    found = [duckdb.sql(query).fetchall() for query in queries.split(";")[:-1]]
    assert [len(rows) for rows in found] == [4, 2, 128]


def test_every_field_of_the_output_is_documented() -> None:
    page = (ROOT / "docs" / "output.md").read_text()
    missing = [field for field in SCHEMA["properties"] | REQUEST_SCHEMA["properties"] if f"`{field}`" not in page]
    assert not missing


def test_the_python_example_of_the_readme_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ClusterIP" in done.stdout


def test_the_story_of_the_readme_is_what_explain_tells(hopline: Hopline) -> None:
    (story,) = re.findall(r"```\n(r\d+  http.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    told = {line.rstrip() for line in hopline("explain", "sample_pcaps/iptables", "r6", "--no-packets", columns=None).out.splitlines()}
    assert [line for line in story.splitlines() if line.rstrip() not in told] == []


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^hopline (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))))
def test_every_command_that_the_readme_names_exists(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from analysis.commands import main; main()", command, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_map_names_only_files_that_exist() -> None:
    for name in re.findall(r"`((?:probes|tracer|analysis)/[\w/.]+)`", (ROOT / "docs" / "architecture.md").read_text()):
        assert (ROOT / name).exists(), name
