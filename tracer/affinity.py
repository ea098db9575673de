"""sessionAffinity ClientIP (Service spec) checked: whether a client came back to the endpoint it had before.

That is told of connections in their order, across all of a bundle.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from tracer.names import Named
from tracer.pipeline import Reconstruction
from tracer.policies import Policy

Backend = tuple[int, int]
Affine = tuple[Hashable, Backend]  # who asks what for; the endpoint's address
Which = TypeVar("Which")


def affine(traced: Reconstruction, named: Sequence[Named]) -> list[tuple[int, Affine]]:
    """The connections to Services with that policy, in order."""
    tuples = traced.tuples
    found: list[tuple[int, Affine]] = []
    for connection, each in enumerate(named):
        service = each.service
        if service is None or service.session_affinity != "ClientIP" or each.original < 0 or each.translated < 0:
            continue
        client = int(tuples["src_hi"][each.original]), int(tuples["src_lo"][each.original])
        backend = int(tuples["dst_hi"][each.translated]), int(tuples["dst_lo"][each.translated])
        found.append((connection, ((service.namespace, service.name, service.port, service.protocol, client), backend)))
    return found


def affinities(asked: Iterable[tuple[Which, Affine]]) -> Iterator[tuple[Which, Policy]]:
    """The policy of each connection of `affine`, whatever names it; in order of their starts."""
    known: dict[Hashable, Backend] = {}
    for which, (key, backend) in asked:
        before = known.get(key)
        known[key] = backend
        if before is None:
            yield which, Policy("sessionAffinity", "ClientIP", True, "first connection of this client")
        else:
            held = before == backend
            yield which, Policy("sessionAffinity", "ClientIP", held, "same endpoint as before" if held else "another endpoint than before")
