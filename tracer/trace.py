"""The whole main job: a bundle in, named connections out."""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.schema import Array
from tracer.affinity import Affine, affine, affinities
from tracer.bundle import Bundle
from tracer.drops import drop_problems
from tracer.flows import Flows
from tracer.names import Named, Naming
from tracer.natpath import Call, evaluations
from tracer.pipeline import Reconstruction, reconstruct
from tracer.policies import Policy, policies
from tracer.rule_services import judge_direct
from tracer.socket_owners import own
from tracer.surroundings import Surroundings, glimpse, surroundings


@dataclass(slots=True)
class Trace:
    """A bundle, what was reconstructed from it, and the names.

    `named[i]` belongs to row i of `tables.connections`; `policies` and `affine` go by that row,
    `evaluations` by rows of `tables.translations`.
    """

    bundle: Bundle
    tables: Reconstruction
    named: list[Named]
    policies: dict[int, list[Policy]]
    affine: list[tuple[int, Affine]]
    evaluations: dict[int, list[Call]] = field(default_factory=dict)


def trace(bundle: Bundle) -> Trace:
    """Reconstruct and name everything in `bundle`."""
    seen = glimpse(bundle.observations, len(bundle.points))
    found = trace_part(bundle, surroundings(seen, bundle.points, bundle.links, bundle.timeline))
    for connection, policy in affinities(found.affine):
        found.policies.setdefault(connection, []).append(policy)
    return found


def trace_part(bundle: Bundle, around: Surroundings, linked: Array | None = None) -> Trace:
    """The same for a bundle that is part of another, about which `around` tells; `policies` are without sessionAffinity.

    `linked` are the rows of its observations that have a flow (`tracer.sightings.linked_rows`), if it has others' too.
    """
    tables = reconstruct(bundle.observations, bundle.points, bundle.ledgers, bundle.sockets, linked)
    named = list(Naming(tables, bundle.timeline, bundle.links, around).all())
    judge_direct(tables, named, bundle.timeline, bundle.rules)
    own(tables, named, bundle.timeline)
    found = Trace(bundle, tables, named, policies(tables, named), affine(tables, named))
    if bundle.drops or bundle.natpaths:
        flows = Flows(tables)
        for connection, problems in drop_problems(flows, tables.nodes, bundle.drops).items():
            named[connection].problems += problems
        found.evaluations = evaluations(flows, tables, bundle.natpaths)
    return found
