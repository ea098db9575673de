"""The tables of `analysis.frames` as Parquet files, one per table, with each column's unit and meaning in its metadata."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.frames import TABLES, Frames


def write_parquet(folder: Path, frames: Frames) -> None:
    """Write `folder`/NAME.parquet for every NAME of TABLES; the folder must not exist. OSError where it cannot be written."""
    folder.mkdir(parents=True)
    for name, columns in TABLES.items():
        table = pa.Table.from_pandas(getattr(frames, name), preserve_index=False)
        fields = [
            table.schema.field(column).with_metadata({"unit": unit, "meaning": meaning}) for column, (_, unit, meaning) in columns.items()
        ]
        pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), folder / f"{name}.parquet", compression="zstd")
