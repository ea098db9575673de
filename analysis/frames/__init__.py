"""The same answers as pandas DataFrames, and questions asked of them: `latency_by(load("bundle/"), "service")`.

`columns` is the schema, `rows` and `tables` fill it from records, `questions` are plain functions over the tables. Only this package and
`analysis.parquet` may import pandas.
"""

from analysis.frames.columns import TABLES
from analysis.frames.questions import errors, latency_by, shares, slowest
from analysis.frames.tables import ByName, Frames, frames, from_records, load, of_connections, of_requests

__all__ = [
    "TABLES",
    "ByName",
    "Frames",
    "errors",
    "frames",
    "from_records",
    "latency_by",
    "load",
    "of_connections",
    "of_requests",
    "shares",
    "slowest",
]
