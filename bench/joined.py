"""One join, timed: `python -m bench.joined TOOL ROWS` prints {"seconds", "cpu_seconds", "peak_bytes", "count", "sum_ns"} as JSON.

Two tables of ROWS rows: a 64-bit key and a time. A key occurs once in each, as a packet passes a place once; one in twenty has no partner.
Asked for are both times of each key that is in both tables. Every tool has its tables in memory, as it likes them best; loading them, and a
small join before, are not counted; of REPEATED joins it is the median, as memory that no one had yet takes longer to get for whoever is
first. `peak_bytes` is what the joins took beside their tables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.timing import Timing, begin_peak, median, peak_bytes, resident_bytes, timed

Columns = dict[str, npt.NDArray[Any]]
Times = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
Join = tuple[Callable[[], Any], Callable[[Any], Times]]  # what is timed, and how to look at what came of it
SMALL = 1009
REPEATED = 3


def tables(rows: int) -> tuple[Columns, Columns]:
    """The two tables: `key` (uint64) and `left_ns`, `right_ns` (int64)."""
    random = np.random.default_rng(1)
    key = random.integers(0, 1 << 64, rows, "u8")
    left_ns = np.cumsum(random.integers(1, 2000, rows))
    order = random.permutation(rows)
    other, right_ns = key[order], left_ns[order] + 20_000
    other[: rows // 20] = random.integers(0, 1 << 64, rows // 20, "u8")
    return {"key": key, "left_ns": left_ns}, {"key": other, "right_ns": right_ns}


def hopline(left: Columns, right: Columns) -> Join:
    """What joins sightings of one packet. It pairs each row with the next of equal key, which is a join where keys are not repeated."""
    from tracer.pairing import paired  # noqa: PLC0415 - what is not timed is not loaded

    both = (left["key"], left["left_ns"].view("u8")), (right["key"], right["right_ns"].view("u8"))
    return lambda: paired(*both), lambda found: (found[0].view("i8"), found[1].view("i8"))


def pandas(left: Columns, right: Columns) -> Join:
    """`pandas.merge`, which gives the keys as well."""
    import pandas as pd  # noqa: PLC0415

    one, other = pd.DataFrame(left), pd.DataFrame(right)
    return lambda: pd.merge(one, other, on="key"), _columns


def polars(left: Columns, right: Columns) -> Join:
    """Polars' streaming engine, which was the faster of its two."""
    import polars as pl  # noqa: PLC0415

    one, other = pl.LazyFrame(left), pl.LazyFrame(right)
    query = one.join(other, on="key").select("left_ns", "right_ns")
    return lambda: query.collect(engine="streaming"), _columns


def duckdb(left: Columns, right: Columns) -> Join:
    """DuckDB, from its own tables in memory to an Arrow table, its quickest way out."""
    import duckdb as library  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    connection = library.connect()
    connection.register("columns", pa.table(left))
    connection.execute("CREATE TABLE one AS SELECT * FROM columns")
    connection.register("columns", pa.table(right))
    connection.execute("CREATE TABLE other AS SELECT * FROM columns")
    connection.unregister("columns")
    return lambda: connection.sql("SELECT left_ns, right_ns FROM one JOIN other USING (key)").to_arrow_table(), _columns


def _columns(found: Any) -> Times:
    return np.asarray(found["left_ns"]), np.asarray(found["right_ns"])


TOOLS: dict[str, Callable[[Columns, Columns], Join]] = {"hopline": hopline, "pandas": pandas, "polars": polars, "duckdb": duckdb}


def main() -> None:
    """Time one tool in this process."""
    tool, rows = TOOLS[sys.argv[1]], int(sys.argv[2])
    tool(*tables(SMALL))[0]()
    join, look = tool(*tables(rows))
    begin_peak()
    began = resident_bytes()
    runs = list[Timing]()
    for _ in range(REPEATED):
        found: list[Any] = []
        runs.append(timed(lambda into=found: into.append(join()) or rows))
    taken = median(runs)
    left_ns, right_ns = look(found[0])
    told = {"seconds": taken.seconds, "cpu_seconds": taken.cpu_seconds, "peak_bytes": peak_bytes() - began}
    sys.stdout.write(json.dumps(told | {"count": len(left_ns), "sum_ns": int((right_ns - left_ns).sum())}))


if __name__ == "__main__":
    main()
