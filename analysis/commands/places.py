"""Where input is and spilled packets go: a path here, or the address of an object store (`s3://bucket/bundle`), by fsspec's names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")  # as it is written, or as a Path, which has no empty parts


class PlaceError(Exception):
    """Nobody can read from there; the message says why, and what to do."""


def place(path: Path) -> Path:
    """`path`, or, where it is an address, a UPath, which reads and writes like one. PlaceError where that cannot be."""
    address = _ADDRESS.match(str(path))
    if address is None or path.exists():
        return path
    url = f"{address[1]}://{str(path)[address.end() :]}"
    try:
        from upath import UPath  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise PlaceError(f"{url}: object stores are read by another package (pip install 'hopline[dask]')") from None
    try:
        found = UPath(url)
        found.exists()
    except (ImportError, ValueError) as error:  # fsspec names the package of each protocol
        raise PlaceError(f"{url}: {error}") from None
    except OSError as error:
        raise PlaceError(f"{url}: {error} (check the address and your credentials)") from None
    return cast("Path", found)


def is_archive(path: Path) -> bool:
    """Whether a bundle is an archive."""
    from tracer.bundle_files import ARCHIVE_FILE  # noqa: PLC0415 - imports are slow, --help is not

    try:
        return path.name == ARCHIVE_FILE or (place(path) / ARCHIVE_FILE).exists()
    except PlaceError:
        return False
