"""Which requests each call could have served: those that were under way in its pod when it was made."""

from __future__ import annotations

import numpy as np

from probes.jit import kernel
from probes.schema import Array

MOST_CANDIDATES = 256  # per call, the latest to arrive


@kernel
def _count(call_at: Array, call_pod: Array, arrival: Array, close: Array, pod: Array, call: Array, parent: Array, fill: bool) -> int:
    """Pairs of a call and a request of its pod that arrived before it and was not over; calls and requests are sorted by pod and time."""
    found, first, last = 0, 0, 0
    for index in range(len(call_at)):
        while first < len(pod) and (pod[first] < call_pod[index] or (pod[first] == call_pod[index] and close[first] < call_at[index])):
            first += 1
        last = max(last, first)
        while last < len(pod) and (pod[last] < call_pod[index] or (pod[last] == call_pod[index] and arrival[last] <= call_at[index])):
            last += 1
        taken = 0
        for other in range(last - 1, first - 1, -1):
            if taken == MOST_CANDIDATES:
                break
            if pod[other] == call_pod[index] and arrival[other] <= call_at[index] <= close[other]:
                if fill:
                    call[found], parent[found] = index, other
                found += 1
                taken += 1
    return found


def candidates(call_at: Array, call_pod: Array, arrival: Array, close: Array, pod: Array) -> tuple[Array, Array]:
    """`(call, request)` (int64 rows) of all pairs in which the call was made between the request's `arrival` and `close` (int64 ns).

    Sorted by call; of one call, the request that arrived last comes first.
    """
    calls, requests = np.lexsort((call_at, call_pod)), np.lexsort((arrival, pod))
    columns = call_at[calls], call_pod[calls].astype("i8"), arrival[requests], close[requests], pod[requests].astype("i8")
    none = np.zeros(0, "i8")
    total = _count(*columns, none, none, False)
    call, parent = np.empty(total, "i8"), np.empty(total, "i8")
    _count(*columns, call, parent, True)
    pairs = calls[call], requests[parent]
    order = np.argsort(pairs[0], kind="stable")
    return pairs[0][order], pairs[1][order]
