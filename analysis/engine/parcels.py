"""What every worker needs of a run, in a file of its folder: it goes through no scheduler, and is there whichever worker is lost."""

from __future__ import annotations

import hashlib
import pickle
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.engine.files import whole

_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Parcel:
    """Where something is, and the `digest` of its bytes: nothing else is unpickled, whoever else writes to that folder."""

    path: Path
    digest: str

    def content(self) -> Any:
        """What was packed. The last one of a process stays in memory until it should `forget`, and is not to be changed."""
        with _turn:  # threads of one worker
            return _opened(self)


def pack(what: object, folder: Path) -> Parcel:
    """Put `what` into `folder`, which is there."""
    content = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    path = folder / f"parcel-{digest}"
    with whole(path) as out:
        out.write(content)
    return Parcel(path, digest)


def forget() -> None:
    """What this process has of a parcel is not needed any more."""
    _opened.cache_clear()


@lru_cache(1)
def _opened(parcel: Parcel) -> Any:
    content = parcel.path.read_bytes()
    if hashlib.blake2b(content, digest_size=16).hexdigest() != parcel.digest:
        raise OSError(f"{parcel.path} is not what was written there (let nobody else write to that folder)")
    return pickle.loads(content)  # noqa: S301 - our own
