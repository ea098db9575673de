"""What partitions leave in a folder: their records and what is told of them; and whether that is this run's."""

from __future__ import annotations

import gc
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from analysis.engine.errors import SpillError
from analysis.engine.stitch import Stitched
from analysis.engine.work import Work
from analysis.sums import Sums
from probes.schema import Table

RUN = "run.json"


def text_file(folder: Path, part: int) -> Path:
    """Where the records of a partition are."""
    return folder / f"records-{part}.json"


def told_file(folder: Path, part: int) -> Path:
    """Where what is told of them is; it is there when all of them are."""
    return folder / f"records-{part}.npz"


def sums_file(folder: Path, part: int) -> Path:
    """Where the sums of a partition are, if they were asked for."""
    return folder / f"sums-{part}.npz"


def stitch_to_files(work: Work, part: int, packets: Table, folder: Path) -> Stitched:
    """Stitch one partition into its files, which are whole or not there."""
    traced = work.trace(part, packets)
    with whole(text_file(folder, part)) as out:
        stitched = work.stitch(part, traced, out)
    if stitched.sums is not None:
        with whole(sums_file(folder, part)) as out:
            stitched.sums.save(out)
    if work.requests:
        from analysis.engine.requests import requests_to_files  # noqa: PLC0415 - connections alone need none of it

        requests_to_files(work, traced, folder, part)
    with whole(told_file(folder, part)) as out:
        stitched.save(out)
    del traced
    gc.collect()  # what refers to itself holds on to packets, and there is little of it: nobody would look for a long time
    return replace(stitched, sums=None)


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written, that is there when all of it is."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as out:
            yield out
    except BaseException:
        with suppress(OSError):  # what could not be written whole takes no space
            unfinished.unlink()
        raise
    unfinished.rename(path)


def load_sums(part: int, *, folder: Path) -> Sums:
    """The sums of a partition that has been stitched."""
    with sums_file(folder, part).open("rb") as file:
        return Sums.load(file)


def finished(folder: Path, part: int) -> Stitched | None:
    """What an earlier run left of a partition; None if that is not all of it."""
    try:
        with told_file(folder, part).open("rb") as file:
            return Stitched.load(file)
    except FileNotFoundError:
        return None


def text_of(folder: Path, part: int) -> memoryview:
    """The content of a partition's `text_file`."""
    return content_of(text_file(folder, part))


def content_of(path: Path, access: int = mmap.ACCESS_READ) -> memoryview:
    """The content of a file: its pages, or, if that is elsewhere, those of a copy that nobody else sees.

    With mmap.ACCESS_COPY it can be written, as machine code for arrays wants it, and what is written there nobody else sees.
    """
    with path.open("rb") as file, tempfile.TemporaryFile(prefix="hopline-") as copy:
        local = type(path) is type(Path())  # not one that fsspec reads
        if not local:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
        number = (file if local else copy).fileno()
        empty = not os.fstat(number).st_size
        return memoryview(b"") if empty else memoryview(mmap.mmap(number, 0, access=access))


def claim(folder: Path, inputs: Iterable[Path], asked: object, name: str = RUN) -> None:
    """Make `folder` that of a run of these `inputs` (files, as they are now) and what is `asked` of them, or go on with it.

    The file `name` in it tells which run that is.

    SpillError where it holds anything else.
    """
    from analysis.cache.question import program  # noqa: PLC0415 - of no use to packets in memory

    run = {
        "program": program(),
        "asked": hashlib.blake2b(repr(asked).encode(), digest_size=16).hexdigest(),
        "inputs": _state(inputs),
    }
    there = folder / name
    if there.exists():
        if json.loads(there.read_text()) != run:
            why = "is a run's of other input, or that asked for something else, or another hopline's"
            raise SpillError(f"{folder} {why} (name another, or remove it)")
        return
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)  # in an object store, folders are there when something is in them
    elif any(folder.iterdir()):
        raise SpillError(f"{folder} is neither empty nor what an interrupted run left (name another folder)")
    with whole(there) as out:
        out.write(json.dumps(run, indent=2).encode())


def _state(inputs: Iterable[Path]) -> dict[str, Any]:
    states = ((str(path), path.stat()) for path in inputs if path.is_file())
    return {path: [state.st_size, state.st_mtime] for path, state in states}
