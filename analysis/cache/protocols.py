"""Which protocols the installed tshark dissects: it takes a quarter of a second to say so, and says the same each time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from analysis.cache.question import tshark
from analysis.cache.store import Store
from probes.dissect.tshark import known_protocols, tell_protocols


def key_of_protocols() -> str:
    """By which they are kept."""
    return hashlib.sha256(f"protocols {tshark()}".encode()).hexdigest()


@contextmanager
def protocols_kept(store: Store | None) -> Iterator[None]:
    """What an earlier run was told is known within; what this one is told is kept. Nothing is without a `store`."""
    if store is None:
        yield
        return
    known = store.load(key_of_protocols())
    if isinstance(known, frozenset):
        tell_protocols(known)
    yield
    if known is None and known_protocols():
        store.keep(key_of_protocols(), known_protocols())
