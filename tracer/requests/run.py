"""All of it for a traced bundle: dissect, align the clocks, make requests, find their parents."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probes.schema import Array, size
from tracer.clocks import Clocks, clocks
from tracer.cluster import Owner
from tracer.requests.dissection import Dissection, dissect
from tracer.requests.parents import Facts, Parents, facts, parents
from tracer.requests.parents.contexts import contexts
from tracer.requests.passed import Passed, passed
from tracer.requests.table import Requests, requests
from tracer.trace import Trace


@dataclass(slots=True)
class RequestTrace:
    """A trace of connections, and the requests found in them."""

    trace: Trace
    clocks: Clocks
    dissection: Dissection
    requests: Requests
    facts: Facts
    parents: Parents
    passed: Passed


def trace_requests(
    traced: Trace,
    *,
    wanted: Array | None = None,
    keys: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> RequestTrace:
    """Find the requests of `traced`, on connections that `wanted` (bool per connection; all by default) names.

    `keys` is a TLS key log file (NSS format). Where tshark is missing or fails, `dissection.problem` says so, and every connection is one
    request. `progress` is called with what is being done, how much of it is done, and how much there is.
    """
    found = dissect(traced.bundle, traced.tables, wanted=wanted, keys=keys, progress=progress)
    with ThreadPoolExecutor(1) as beside:
        aligned = beside.submit(clocks, traced.tables)
        seen = passed(traced.tables, found)
    return tie(traced, found, seen, aligned.result(), progress)


def tie(traced: Trace, found: Dissection, seen: Passed, aligned: Clocks, progress: Callable[[str, int, int], None]) -> RequestTrace:
    """Make requests of what was `found` and `seen`, and find their parents."""
    table = requests(traced.tables, found, seen, aligned)
    known = facts(traced.tables, traced.named, table, aligned, _workload(traced))
    if traced.bundle.uses:
        known.context = contexts(traced.tables, traced.bundle.uses, aligned, known)
    progress("finding parents", 0, 1)
    tied = parents(known) if size(table.table) else Parents()
    progress("finding parents", 1, 1)
    return RequestTrace(traced, aligned, found, table, known, tied, seen)


def without_requests(traced: Trace) -> Array:
    """A `wanted` that names no connection."""
    return np.zeros(size(traced.tables.connections), bool)


def _workload(traced: Trace) -> Callable[[Owner, int], tuple[str, ...]]:
    timeline = traced.bundle.timeline

    def workload(pod: Owner, time_ns: int) -> tuple[str, ...]:
        controller = timeline.workload(pod.namespace or "", pod.name or "", time_ns)
        return (pod.namespace or "", *(controller or ("Pod", pod.name or "")))

    return workload
