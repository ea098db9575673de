"""The whole main job: a bundle in, named connections out."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.bundle import Bundle
from tracer.names import Named, Naming
from tracer.pipeline import Reconstruction, reconstruct
from tracer.policies import Policy, policies


@dataclass(slots=True)
class Trace:
    """A bundle, what was reconstructed from it, and the names.

    `named[i]` belongs to row i of `tables.connections`; `policies` go by that row.
    """

    bundle: Bundle
    tables: Reconstruction
    named: list[Named]
    policies: dict[int, list[Policy]]


def trace(bundle: Bundle) -> Trace:
    """Reconstruct and name everything in `bundle`."""
    tables = reconstruct(bundle.observations, bundle.points, bundle.ledgers)
    named = list(Naming(tables, bundle.timeline, bundle.links).all())
    return Trace(bundle, tables, named, policies(tables, named))
