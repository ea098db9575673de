"""Which protocols the installed tshark dissects: it takes a quarter of a second to say so, and says the same each time."""

from __future__ import annotations

import hashlib

from analysis.cache.question import tshark
from analysis.cache.store import Store
from probes.dissect.tshark import known_protocols, tell_protocols


def key_of_protocols() -> str:
    """By which they are kept."""
    return hashlib.sha256(f"protocols {tshark()}".encode()).hexdigest()


def recall_protocols(store: Store) -> None:
    """Have nobody ask, if an earlier run was told."""
    known = store.load(key_of_protocols())
    if isinstance(known, frozenset):
        tell_protocols(known)


def keep_protocols(store: Store) -> None:
    """Keep what this run was told, if that is not kept, or damaged."""
    if known_protocols() and store.load(key_of_protocols()) is None:
        store.keep(key_of_protocols(), known_protocols())
