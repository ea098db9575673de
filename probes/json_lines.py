"""What the readers of JSON lines share: one row per line, a table from rows, and one Problem for all lines that are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from probes.conntrack.rows import cut, unreadable
from probes.schema import Problem, Schema, Table

_Row = TypeVar("_Row")


def read_rows(content: bytes, file: str, row: Callable[[dict[str, Any]], _Row], expected: str) -> tuple[list[_Row], list[Problem]]:
    """`row` of every line's object, in file order, and Problems; never raises on content.

    `row` may raise ValueError, KeyError, TypeError or AttributeError where an object is not `expected`.
    """
    rows: list[_Row] = []
    bad_lines, first_bad, number = 0, 0, 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(row(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            bad_lines += 1
            first_bad = first_bad or number
    if bad_lines and first_bad == number:  # what follows the last newline: cut, not wrong
        return rows, [cut(file, number, used=False)]
    return rows, [unreadable(file, bad_lines, first_bad, expected)] if bad_lines else []


def table_of(schema: Schema, rows: Sequence[tuple[int, ...]]) -> Table:
    """A table of rows that have the schema's columns in order."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema.columns)
    return schema.check({named.name: np.array(values, named.dtype) for named, values in zip(schema.columns, columns, strict=True)})


def whole(value: Any, bits: int) -> int:
    """A whole number of at most `bits` bits; ValueError where it is none (true is no number here, nor is 1.5)."""
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError(value)
    return value


def text(value: Any) -> str | None:
    """A text or None; ValueError where it is neither."""
    if value is not None and not isinstance(value, str):
        raise ValueError(value)
    return value
