"""Text and tables as HTML. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from analysis.terminal import plain


def text(value: object) -> str:
    """`value` as HTML text: markup stays text, control characters are shown as escapes."""
    return escape(plain(str(value)))


def table(head: Iterable[str], rows: Iterable[Iterable[object]], classes: Iterable[str] | None = None, *, empty: str = "None.") -> str:
    """`rows` under `head`, each of its class, if there are `classes`; `empty` where there is no row."""
    body = ["".join(f"<td>{text(cell)}</td>" for cell in row) for row in rows]
    if not body:
        return f"<p>{text(empty)}</p>"
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    begins = (f'<tr class="{text(each)}">' if each else "<tr>" for each in classes or [""] * len(body))
    lines = "\n".join(f"{begin}{row}</tr>" for begin, row in zip(begins, body, strict=True))
    return f"<table><thead><tr>{names}</tr></thead><tbody>\n{lines}\n</tbody></table>"
