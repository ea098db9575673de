"""Documents that are YAML, for `tracer.cluster.documents`: by themselves, as loading yaml takes longer than reading JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tracer.cluster.documents import INCOMPLETE, Documents


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which times stay text, as in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, out: Documents) -> None:
    """All documents of `text` into `out`, and what is wrong with them."""
    for line, part in _parts(text):
        try:
            document = yaml.load(part, _Loader)  # noqa: S506 - derived from the safe loader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            document = _cut_off(part)
            kept = f"{len(document['items'])} complete items are used" if document else "the document is skipped"
            at = line + (mark.line if mark else 0)
            out.problem(f"the YAML document of line {line} breaks off at line {at}", f"{kept}; record it again for the rest", at)
        if isinstance(document, dict) and document.get("items") and "kind" not in document:
            # kubectl writes `kind: List` after the items: without it, the last item may be half an item.
            document = {**document, "kind": "List", "items": document["items"][:-1], INCOMPLETE: True}
            out.problem("the YAML List has no end", "all items but the last are used; record it again for the rest", None)
        if document is not None:
            out.found.append(document)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of the `---`-separated documents."""
    start = 0
    for separator in re.finditer(r"^---(?=\s).*$|^---\Z", text, re.MULTILINE):
        yield text.count("\n", 0, start) + 1, text[start : separator.start()]
        start = separator.end()
    yield text.count("\n", 0, start) + 1, text[start:]


def _cut_off(part: str) -> dict[str, Any] | None:
    """The complete items of a YAML List that breaks off in its last item."""
    cut = part.rfind("\n- ")
    if cut < 0:
        return None
    try:
        document = yaml.load(part[: cut + 1], _Loader)  # noqa: S506 - derived from the safe loader
    except yaml.YAMLError:
        return None
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        return {**document, "kind": document.get("kind", "List"), INCOMPLETE: True}
    return None
