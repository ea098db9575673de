"""Columns of text, for `probes.text_rows`: what many rows have alike is made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from probes.schema import Array
from probes.text_rows import Texts
from tracer import evidence
from tracer.numbering import distinct
from tracer.tuples import mix


def alike(keys: Sequence[Array], text: Callable[[int], str]) -> tuple[list[str], Array]:
    """What `text` makes of each row, made once for rows that are equal in all of `keys` (integers)."""
    _, first, number = distinct(mix(*keys))
    return [text(row) for row in first.tolist()], number


def some(count: int, texts: Mapping[int, str], others: str) -> Texts:
    """`texts` of some of `count` rows, and that of all `others`."""
    which = np.zeros(count, "i8")
    which[list(texts)] = np.arange(1, len(texts) + 1)
    return [others, *texts.values()], which


def evidence_texts(bits: Array) -> tuple[list[str], Array]:
    """The names of evidence."""
    return alike([bits], lambda row: json.dumps(evidence.names(int(bits[row]))))


def behind_first(connection: Array) -> Texts:
    """A comma where a row is of the same connection as the one before it."""
    return ["", ", "], (np.diff(connection, prepend=-1) == 0).astype("i8")
