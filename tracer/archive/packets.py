"""Observations as the columns of a Parquet file, and back: a table that other tools read as it is, and from which nothing is missing."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from probes import addresses
from probes.decode import VIEWS_PER_FRAME
from probes.decode.numbers import TUNNELS
from probes.schema import OBSERVATIONS, Array, Column, ObservationPoint, Table, size, take
from tracer.numbering import distinct
from tracer.tuples import mix

VERSION = 1
ROWS_PER_GROUP = 1 << 15
_SCHEMA_KEY = b"hopline"

# Columns of few values, as words: the place of a word is the number that OBSERVATIONS has; an empty one is null.
_WORDS: dict[str, tuple[str, ...]] = {
    "view": ("packet", "outer", "embedded"),
    "tunnel": tuple(TUNNELS.get(number, "") for number in range(max(TUNNELS) + 1)),
    "direction": ("", "in", "out"),
}
_SAME = tuple(
    column for column in OBSERVATIONS.columns
    if column.name not in {"time_ns", "outer", "src_hi", "src_lo", "dst_hi", "dst_lo", *_WORDS}
)  # fmt: skip
_DELTA = ("time", "frame", "ip_id", "seq", "ack", "tsval", "tsecr")  # numbers that are near the row before's
_DTYPES = {"u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "i8": "int64"}

COLUMNS: tuple[Column, ...] = (
    Column("time", "datetime64[ns, UTC]", "", "capture time, on the clock of the machine that captured; 1970 where the capture has none"),
    Column("node", "string", "", "where it was seen"),
    Column("interface", "string", "", "where it was seen"),
    Column("file", "string", "", "capture that it comes from"),
    Column("src", "string", "", "source address as seen here"),
    Column("dst", "string", "", "destination address as seen here"),
    Column("depth", "uint8", "", "in how many others of this frame it is: tunnels' outer packets, ICMP errors"),
    Column("view", "string", "", "packet, outer (of a tunnel), embedded (header in an ICMP error)"),
    Column("tunnel", "string", "", f"how this view is carried: {', '.join(TUNNELS.values())}; null where plainly"),
    Column("direction", "string", "", "at the interface: in, out; null where the capture does not tell"),
    *(Column(column.name, _DTYPES[column.dtype], column.unit, column.meaning) for column in _SAME),
)


def depths(observations: Table) -> Array:
    """In how many others of its frame each row is (uint8)."""
    depth = np.zeros(size(observations), "u1")
    inside = np.flatnonzero(observations["outer"] >= 0)
    for _ in range(VIEWS_PER_FRAME):
        depth[inside] = depth[observations["outer"][inside]] + 1
    return depth


def write_packets(file: IO[bytes], observations: Table, depth: Array, points: Sequence[ObservationPoint]) -> None:
    """Write `observations`, in any order, with their `depths` to `file` as Parquet."""
    columns = {
        "time": pa.array(observations["time_ns"]).cast(pa.timestamp("ns", "UTC")),
        **{name: _named(observations["point"], [getattr(point, name) for point in points]) for name in ("node", "interface", "file")},
        **{end: _addresses(observations[f"{end}_hi"], observations[f"{end}_lo"]) for end in ("src", "dst")},
        "depth": pa.array(depth),
        **{name: _named(observations[name], words) for name, words in _WORDS.items()},
        **{column.name: pa.array(observations[column.name]) for column in _SAME},
    }
    fields = [
        pa.field(column.name, columns[column.name].type, metadata={"unit": column.unit, "meaning": column.meaning}) for column in COLUMNS
    ]
    schema = pa.schema(fields, {_SCHEMA_KEY: f"packets {VERSION}"})
    table = pa.table([columns[column.name] for column in COLUMNS], schema=schema)
    pq.write_table(
        table, file, row_group_size=ROWS_PER_GROUP, compression="zstd", compression_level=3,
        use_dictionary=[column.name for column in COLUMNS if column.name not in _DELTA],
        column_encoding=dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"), write_page_checksum=True, **_blooms(columns),
    )  # fmt: skip


def _blooms(columns: dict[str, pa.Array]) -> dict[str, Any]:
    """Filters that tell which groups of rows have an address: connections lie together, so each has few of many."""
    if "bloom_filter_options" not in signature(pq.ParquetWriter).parameters:  # before pyarrow 24
        return {}
    return {"bloom_filter_options": {end: {"ndv": max(1, len(columns[end].dictionary)), "fpp": 0.01} for end in ("src", "dst")}}


def read_packets(paths: Sequence[Path], capture_of_point: Array) -> Table:
    """The observations of several such files, in the order in which captures have them; `capture_of_point` numbers those.

    OSError where one cannot be read, ValueError (pyarrow's) where it is none.
    """
    if not paths:
        return OBSERVATIONS.empty()
    found = [_read(path) for path in paths]
    merged = {name: np.concatenate([each.pop(name) for each in found]) for name in list(found[0])}
    depth = merged.pop("depth")
    order = np.lexsort((depth, merged["frame"], capture_of_point[merged["point"]]))
    merged, depth = take(merged, order), depth[order]
    merged["outer"] = np.where(depth > 0, np.arange(len(depth)) - 1, -1)  # views of a frame are in order: what is in one is behind it
    return OBSERVATIONS.check({column.name: merged[column.name] for column in OBSERVATIONS.columns})


def _read(path: Path) -> Table:
    columns = ["time", "src", "dst", "depth", *_WORDS, *(column.name for column in _SAME)]
    options = {"read_dictionary": ["src", "dst", *_WORDS], "page_checksum_verification": True}
    with path.open("rb") as file, pq.ParquetFile(file, **options) as content:
        table = content.read(columns, use_threads=False)  # who reads several parts does so side by side
    found: Table = {"time_ns": table["time"].cast(pa.int64()).to_numpy(), "depth": table["depth"].to_numpy()}
    for end in ("src", "dst"):
        found[f"{end}_hi"], found[f"{end}_lo"] = _numbers(table[end])
    for name, words in _WORDS.items():
        found[name] = _codes(table[name], words)
    return found | {column.name: table[column.name].to_numpy() for column in _SAME}


def _named(numbers: Array, words: Sequence[str]) -> pa.DictionaryArray:
    """`words[number]` of each of `numbers`; null for empty ones."""
    place = {word: number for number, word in enumerate(dict.fromkeys(filter(None, words)))}
    index = np.array([place.get(word, -1) for word in words] or [-1], "i4")[numbers]
    return pa.DictionaryArray.from_arrays(pa.array(index, mask=index < 0), pa.array(list(place), pa.string()))


def _codes(column: pa.ChunkedArray, words: Sequence[str]) -> Array:
    """The other way round, for different `words` (uint8)."""
    found = [np.empty(0, "u1")]
    for chunk in column.chunks:
        codes = np.array([*(words.index(word) for word in chunk.dictionary.to_pylist()), 0], "u1")
        found.append(codes[chunk.indices.fill_null(len(codes) - 1).to_numpy()])
    return np.concatenate(found)


def _addresses(hi: Array, lo: Array) -> pa.DictionaryArray:
    _, first, number = distinct(mix(hi, lo))
    texts = list(map(addresses.text, hi[first].tolist(), lo[first].tolist()))
    return pa.DictionaryArray.from_arrays(pa.array(number.astype("i4")), pa.array(texts, pa.string()))


def _numbers(column: pa.ChunkedArray) -> tuple[Array, Array]:
    found = [np.empty((0, 2), "u8")]
    for chunk in column.chunks:
        both = np.array([addresses.parse(text) for text in chunk.dictionary.to_pylist()], "u8").reshape(-1, 2)
        found.append(both[chunk.indices.to_numpy()])
    hi, lo = np.concatenate(found).T
    return np.ascontiguousarray(hi), np.ascontiguousarray(lo)
