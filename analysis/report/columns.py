"""Records as columns: the same keys are written once, the same strings once, times as steps from the row before.

Ten thousand requests with their hops are 65 MB as JSON lines, and 2 MB this way once they are compressed. Any JSON value can be packed,
so a new field of a record needs no change here. `assets/columns.js` reads what this writes.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

from analysis.terminal import plain

Column = dict[str, Any] | None
Values = list[Any]
SAMPLE = 101  # values that tell whether many are equal
TIMES = frozenset({"time_ns", "start_ns", "end_ns", "first_ns", "last_ns"})  # since the epoch: too large for a JavaScript number


class Packer:
    """Packs columns that share one table of strings; times are kept relative to `base_ns`."""

    def __init__(self, base_ns: int) -> None:
        self.base_ns = base_ns
        self._codes: dict[str, int] = {}

    @property
    def strings(self) -> list[str]:
        """The table of strings. What packets and metadata said is shown as it was, but control characters as escapes."""
        return [plain(text) for text in self._codes]

    def column(self, values: Values, name: str = "") -> Column:
        """`values` (JSON values, None where unknown) as one of the shapes that assets/columns.js reads; None where all are unknown."""
        kinds = set(map(type, values)) - {type(None)}
        if not kinds:
            return None
        if kinds == {str}:
            return {"shape": "text", "codes": self._texts(values)}
        if kinds == {dict}:
            return self._distinct(values) or self._struct(values)
        if kinds == {list}:
            return self._distinct(values) or self._lists(values)
        if kinds == {int} and name in TIMES:
            return {"shape": "times", "steps": self._steps(values)}
        return {"shape": "values", "values": [plain(value) if isinstance(value, str) else value for value in values]}

    def _texts(self, values: Values) -> list[int]:
        for text in dict.fromkeys(values):
            if text is not None:
                self._codes.setdefault(text, len(self._codes))
        return list(map(self._codes.get, values, repeat(-1)))

    def _distinct(self, values: Values) -> Column:
        """Each distinct value once, and which one every row has; None where that would not halve the rows."""
        sample = values[:: max(1, len(values) // SAMPLE)]
        if len(set(map(repr, sample))) > len(sample) // 2 and len(values) > SAMPLE:
            return None
        codes: dict[str, int] = {}  # by a text that tells 1 from true
        rows: list[int] = []
        kept: Values = []
        for value in values:
            code = -1 if value is None else codes.setdefault(repr(value), len(kept))
            if code == len(kept):
                kept.append(value)
            rows.append(code)
        if 2 * len(kept) > len(values):
            return None
        return {"shape": "distinct", "rows": rows, "of": self._struct(kept) if isinstance(kept[0], dict) else self._lists(kept)}

    def _struct(self, values: Values) -> Column:
        keys = dict.fromkeys(chain.from_iterable(value for value in values if value is not None))
        present = [int(value is not None) for value in values]
        fields = {key: self.column([None if value is None else value.get(key) for value in values], key) for key in keys}
        return {"shape": "struct", "fields": fields, "present": None if all(present) else present}

    def _lists(self, values: Values) -> Column:
        lengths = [-1 if value is None else len(value) for value in values]
        return {"shape": "lists", "lengths": lengths, "items": self.column([item for value in values for item in value or ()])}

    def _steps(self, values: Values) -> Values:
        found, before = [], self.base_ns
        for value in values:
            found.append(None if value is None else value - before)
            before = before if value is None else value
        return found
