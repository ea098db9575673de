"""The tables of `analysis.frames` as Parquet files, one per table, with each column's unit and meaning in its metadata."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.frames import TABLES, ByName, of_connections, of_requests
from analysis.progress import Working, unseen

Record = dict[str, Any]
AT_ONCE = 10_000  # records of which the rows are in memory: a row group of each table


class Records(Protocol):
    """So many records, one after the other."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record]: ...


def write_parquet(folder: Path, connections: Records, requests: Records, working: Working = unseen) -> None:
    """Write `folder`/NAME.parquet for every NAME of TABLES, a row group after the other; OSError where it cannot be written.

    The folder must not exist. `requests` are those of `connections`. `working` is told what is done, how much of it, and of how much.
    """
    folder.mkdir(parents=True)
    with ExitStack() as files:
        empty = of_connections([]) | of_requests([], {})
        writers = {name: files.enter_context(_writer(folder / f"{name}.parquet", frame)) for name, frame in empty.items()}

        def write(records: Records, what: str, tables: Callable[[list[Record]], ByName]) -> None:
            done, rest = 0, iter(records)
            while some := list(itertools.islice(rest, AT_ONCE)):
                for name, frame in tables(some).items():
                    writers[name].write_table(pa.Table.from_pandas(frame, writers[name].schema, preserve_index=False))
                done += len(some)
                working(what, done, len(records))

        carried_by: dict[str, str] = {}

        def connection_tables(some: list[Record]) -> ByName:
            carried_by.update((record["id"], record["protocol"]) for record in some)
            return of_connections(some)

        write(connections, "tables of connections", connection_tables)
        write(requests, "tables of requests", lambda some: of_requests(some, carried_by))


def _writer(path: Path, frame: Any) -> pq.ParquetWriter:
    """For tables of the kind that `frame` is."""
    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    fields = [
        schema.field(column).with_metadata({"unit": unit, "meaning": meaning}) for column, (_, unit, meaning) in TABLES[path.stem].items()
    ]
    return pq.ParquetWriter(path, pa.schema(fields, schema.metadata), compression="zstd")
