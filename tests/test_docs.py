"""What the documents say is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.contract import SCHEMA
from analysis.frames import TABLES

ROOT = Path(__file__).parent.parent


def tables_page() -> str:
    lines = ["# Tables", "", "What `hopline trace --parquet DIR` writes and `analysis.frames.load` returns. Times are UTC.", ""]
    for name, columns in TABLES.items():
        lines += [f"## {name}", "", "| column | dtype | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{column}` | {dtype} | {unit} | {meaning} |" for column, (dtype, unit, meaning) in columns.items()]
        lines.append("")
    return "\n".join(lines)


def test_the_tables_page_is_made_from_the_tables(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "tables.md"
    if request.config.getoption("--update-golden", default=False):
        page.write_text(tables_page())
    assert page.read_text() == tables_page(), "run `make golden`"


def test_every_field_of_the_output_is_documented() -> None:
    page = (ROOT / "docs" / "output.md").read_text()
    missing = [field for field in SCHEMA["properties"] if f"`{field}`" not in page]
    assert not missing


def test_the_python_example_of_the_readme_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ClusterIP" in done.stdout


def test_the_picture_of_the_readme_is_what_show_draws() -> None:
    def words(line: str) -> list[str]:
        return re.sub(r"node-[abc]\.pcap #\d+", "", line).split()

    (picture,) = re.findall(r"```\n(c\d+  tcp.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    drawn = [words(line) for line in (ROOT / "sample_pcaps" / "iptables" / "show.txt").read_text().splitlines()]
    for line in picture.splitlines():
        if "…" not in line:
            assert words(line) in drawn, line


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
