"""Text of a dump to its documents, however it was written: JSON, JSON lines, JSON documents one after the other, YAML.

Damage costs what is damaged and no more: a file cut off in the middle of a List gives the List's complete items.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from probes.schema import Problem

REPORTED = 5  # problems of one kind told apart per file; the rest are counted

_ITEMS = re.compile(r'"items"\s*:\s*\[')
_LINE_START = re.compile(r"^\s*[{\[]", re.MULTILINE)
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_SPACE = re.compile(r"[\s,]*")
INCOMPLETE = "hopline/cut-off"  # marks a List that was salvaged


@dataclass(slots=True)
class Documents:
    """What a text holds, and what was wrong with it."""

    file: str
    found: list[Any] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    suppressed: int = 0

    def problem(self, what: str, remedy: str, offset: int | None, severity: str = "warning") -> None:
        """Note a problem, up to `REPORTED` of them."""
        if len(self.problems) < REPORTED:
            self.problems.append(Problem(self.file, what, remedy, offset, severity))
        else:
            self.suppressed += 1

    def done(self) -> Documents:
        """Add how many problems were left out."""
        if self.suppressed:
            what, remedy = f"{self.suppressed} more lines could not be read", "see the lines named before; everything else was used"
            self.problems.append(Problem(self.file, what, remedy))
        return self


def documents(file: str, text: str) -> Documents:
    """All documents of `text`, in order. Never raises."""
    out = Documents(file)
    if not text.strip():
        out.problem("the file is empty", "record the cluster again: `kubectl get … -A -o json` prints to stdout", None, "error")
    elif text.lstrip()[0] in "{[":
        _json(text, out)
    else:
        from tracer.cluster.yaml_documents import read_yaml  # noqa: PLC0415 - most bundles have none

        read_yaml(text, out)
    return out.done()


def _json(text: str, out: Documents) -> None:
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    while place < len(text):
        try:
            document, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            place = _salvage(text, place, error, out, decoder)
        else:
            out.found.append(document)
        place = _skip(text, place)


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _salvage(text: str, place: int, error: Exception, out: Documents, decoder: json.JSONDecoder) -> int:
    """Use what is whole of the broken document at `place`; return where reading can go on."""
    line = text.count("\n", 0, place) + 1
    broken = getattr(error, "pos", place)
    items = _ITEMS.search(text, place, broken + 16)
    if items is not None and _depth(text[place : items.start()]) == 1:
        found, end = _items(text, items.end(), decoder)
        head = _ITEMS.split(text[place : items.end()])[0]
        kind = re.search(r'"kind"\s*:\s*"(\w*List)"', head)
        hopline = re.search(r'"hopline"\s*:\s*', head)
        document: dict[str, Any] = {"kind": kind.group(1) if kind else "List", "items": found, INCOMPLETE: True}
        if hopline is not None:
            document["hopline"] = decoder.raw_decode(head, hopline.end())[0]
        out.found.append(document)
        what = f"the List is cut off or damaged after {len(found)} complete items"
        offset = len(text[:end].encode())
        out.problem(f"{what}, at byte {offset}", "these are used; record it again for the rest", offset)
        place = end
    else:
        out.problem(f"line {line} is no complete JSON", "the line is skipped, everything else is used", line)
    following = _LINE_START.search(text, text.find("\n", place) + 1) if "\n" in text[place:] else None
    return following.end() - 1 if following else len(text)


def _depth(head: str) -> int:
    """How many braces and brackets are open at the end of a piece of JSON: a List's own `items` are one deep, a volume's are not."""
    bare = _TEXT.sub("", head)
    return sum(bare.count(opening) for opening in "{[") - sum(bare.count(closing) for closing in "}]")


def _items(text: str, place: int, decoder: json.JSONDecoder) -> tuple[list[Any], int]:
    found: list[Any] = []
    while True:
        place = _skip(text, place)
        try:
            item, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return found, place
        found.append(item)
        place = end
