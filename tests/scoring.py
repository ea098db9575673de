"""The scorer of recorded captures, for tests: what it says of records, as numbers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from unittest.mock import patch

from conftest import CAPTURES

from analysis.records import Record
from bench import reliability
from tracer.bundle import kind_of

SCORER = CAPTURES.parent / "eval" / "score.py"


@dataclass(frozen=True)
class Score:
    """Judged requests, those with every fact right, and per fact how many were right, missing, wrong."""

    exact: int
    judged: int
    facts: dict[str, tuple[int, int, int]]
    text: str

    @property
    def wrong(self) -> int:
        return sum(wrong for _, _, wrong in self.facts.values())

    @property
    def share_right(self) -> float:
        return sum(right for right, _, _ in self.facts.values()) / max(sum(map(sum, self.facts.values())), 1)


def scorer() -> ModuleType:
    return reliability.scorer(SCORER)


def scored(capture: Path, records: Iterable[Record], *options: str) -> Score:
    """What the scorer says of `records`, run as its command line is."""
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()) as said:
        output = Path(folder) / "out.jsonl"
        output.write_text("".join(json.dumps(record) + "\n" for record in records))
        with patch.object(sys, "argv", ["score.py", *options, str(capture / "truth.jsonl"), str(output)]):
            scorer().main()
    text = said.getvalue()
    rows = {name: tuple(map(int, counts)) for name, *counts in re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)$", text, re.MULTILINE)}
    last = re.search(r"^exact (\d+)/(\d+)", text, re.MULTILINE)
    assert last, text
    return Score(int(last[1]), int(last[2]), rows, text)  # type: ignore[arg-type]  # three numbers each


def inputs(capture: Path) -> list[Path]:
    """What hopline may read of a recorded capture: never the truth or the logs it came from."""
    return sorted(path for path in capture.iterdir() if kind_of(path))
