"""Connections dissected side by side: each process has some of them, and a tshark of its own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from probes.dissect.exchanges import read
from probes.dissect.feed import Piece
from probes.dissect.messages import Reading
from probes.dissect.tshark import end_ahead, known_protocols
from probes.processors import PROCESSORS

MOST_PROCESSES = 8
LEAST_PIECES = 4000  # for a process: it and its tshark take a quarter of a second to start
_FORKS = sys.platform == "linux"
_LOOK_S = 0.1  # how often progress is looked at
_SPREAD = 0x9E37_79B1  # golden ratio: neighbours, which are often of one kind, go to different processes


@dataclass(frozen=True, slots=True)
class _Work:
    """What forked processes see of this one; `done` counts pieces by share."""

    shares: Sequence[Sequence[Piece]]
    protocols: Mapping[int, str]
    keys: Path | None
    done: MutableSequence[int]


_work: _Work | None = None


def read_side_by_side(
    pieces: Sequence[Piece],
    protocols: Mapping[int, str],
    *,
    keys: Path | None = None,
    progress: Callable[[int], None] = lambda _pieces: None,
    processes: int | None = None,
) -> Reading:
    """What `read` reads, by as many `processes` as there are processors (and work) for, or as asked for: it is the same for any number."""
    count = min(PROCESSORS, MOST_PROCESSES, len(pieces) // LEAST_PIECES) if processes is None else processes
    if count < 2 or not _FORKS:
        return read(pieces, protocols, keys=keys, progress=progress)
    end_ahead()  # it is one of this process
    known_protocols()  # asked once, for all
    try:
        return _merged(_forked(_dealt(pieces, protocols, count, together=keys is not None), protocols, keys, progress))
    except BrokenProcessPool:  # one was ended from outside: most likely they took too much memory together
        return read(pieces, protocols, keys=keys, progress=progress)


def _dealt(pieces: Sequence[Piece], protocols: Mapping[int, str], count: int, *, together: bool) -> list[list[Piece]]:
    """Whole connections, those of TLS `together` if so: what opened one session opens those that resume it."""
    shares: list[list[Piece]] = [[] for _ in range(count)]
    for piece in pieces:
        mixed = piece.connection * _SPREAD & 0xFFFF_FFFF
        shares[0 if together and protocols[piece.connection] == "tls" else (mixed >> 16) % count].append(piece)
    return [share for share in shares if share]


def _forked(
    shares: Sequence[Sequence[Piece]], protocols: Mapping[int, str], keys: Path | None, progress: Callable[[int], None]
) -> list[Reading]:
    global _work  # noqa: PLW0603 - forked processes take it over
    context = multiprocessing.get_context("fork")
    _work = _Work(shares, protocols, keys, context.RawArray("q", len(shares)))
    try:
        with ProcessPoolExecutor(len(shares), context) as pool:
            found = [pool.submit(_share, number) for number in range(len(shares))]
            while wait(found, _LOOK_S).not_done:
                progress(sum(_work.done))
            progress(sum(_work.done))
            return [each.result() for each in found]
    finally:
        _work = None


def _share(number: int) -> Reading:
    work = _work
    assert work is not None

    def progress(taken: int) -> None:
        work.done[number] = taken

    return read(work.shares[number], work.protocols, keys=work.keys, progress=progress)


def _merged(found: Sequence[Reading]) -> Reading:
    """All of it, in the order of connections."""
    return Reading(
        dict(sorted(item for each in found for item in each.exchanges.items())),
        dict(sorted(item for each in found for item in each.handshakes.items())),
        dict(sorted(item for each in found for item in each.unread.items())),
    )
