"""What commands print and write, and how that fails."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import typer

from analysis.commands.options import EXIT_OUTPUT, EXIT_USAGE, fail


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Print to standard output: all of it is out at the end, `| head` ends it quietly, and a full disk with EXIT_OUTPUT."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # of a file, not of standard output
            raise
        said = ended(error)
        if not isinstance(error, BrokenPipeError):
            fail(said, EXIT_OUTPUT)


def ended(error: OSError) -> str:
    """What to say where standard output cannot be written; what is left to print goes nowhere from now on."""
    # The interpreter flushes stdout once more when it ends (Python docs, "Note on SIGPIPE").
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return f"output cannot be written: {error.strerror or error} (check where it goes to, and the free space there)"


def open_streams() -> None:
    """Put something where a standard stream is closed (`>&-`): the next file opened had its number else. What is printed there fails."""
    for name, flags, mode in (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - there until the end


@contextlib.contextmanager
def nothing_partial(folder: Path) -> Iterator[None]:
    """Files are written into `folder` here, which may be new: where that fails or is interrupted, none of them stays."""
    before = set(folder.iterdir()) if folder.is_dir() else None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in set(folder.iterdir()) - (before or set()):
                path.unlink()
            if before is None:
                folder.rmdir()
        raise


def refuse_existing(path: Path | None, *, force: bool) -> None:
    """End with EXIT_USAGE where a file to be written is there already, before anything is done."""
    if path is not None and path.exists() and not force:
        _refuse(path)


def _refuse(path: Path) -> NoReturn:
    fail(f"{path} exists (name another file, or overwrite it with --force)", EXIT_USAGE)


def write_whole(path: Path, pieces: Iterable[str], *, force: bool) -> None:
    """Write a file so that it is there completely or not at all; ends where it cannot be, or is there already, unless `force`."""
    try:
        _write_whole(path, pieces, force=force)
    except FileExistsError:
        _refuse(path)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)


def _write_whole(path: Path, pieces: Iterable[str], *, force: bool) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        if not force:
            try:
                os.link(part, path)  # unlike a rename, refuses what has come into being meanwhile
            except FileExistsError:
                raise
            except OSError:  # a filesystem without links
                if path.exists():
                    raise FileExistsError(path) from None
            else:
                return
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_page(path: Path, page: str, *, force: bool) -> None:
    """Write an HTML file whole, and say so; ends where it cannot be."""
    write_whole(path, [page], force=force)
    typer.echo(f"{shlex.quote(str(path))}: {path.stat().st_size / 1e6:.1f} MB, open it in any browser", err=True)
