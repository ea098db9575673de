"""What an event loop gives away: its workers, and that each of them answers in the order in which it was answered.

A worker of nginx, Envoy or HAProxy takes the events of its sockets in the order in which they became ready (epoll's ready list is a queue)
and sends at once what each of them leads to. So among the connections of one worker, upstream responses leave downstream in the order of
their arrival; two workers overtake one another. Which connections share a worker is not on the wire, but they exchange with each other
only.
"""

from __future__ import annotations

import numpy as np

from probes.jit import kernel
from probes.schema import Array

MOST_WORKERS = 16
SAME_BLOCK = 0.8  # singular values of a connected block are 1, of its inner structure less
MOST_UPSTREAM = 1500  # connections on one side of the matrix that is decomposed
LEVELS = 6  # of overtaking: 0, 1, 2, 3-4, 5-8, more


@kernel
def likeliest(call: Array, probability: Array) -> Array:
    """The likeliest pair (int64) of each call, of equals the last; pairs are sorted by `call`."""
    found, count = np.empty(len(call), np.int64), 0
    for pair in range(len(call)):
        if pair == 0 or call[pair] != call[pair - 1]:
            count += 1
            found[count - 1] = pair
        elif probability[pair] >= probability[found[count - 1]]:
            found[count - 1] = pair
    return found[:count]


def workers(downstream: Array, upstream: Array, probability: Array) -> tuple[Array, int]:
    """Which worker each upstream connection belongs to (int64), by what it exchanged with whom, and how many workers there are.

    Those exchange among themselves only: they are blocks in `probability` by downstream and upstream connection (from 0).
    """
    matrix = _exchanged(downstream, upstream, probability)
    none = np.zeros(matrix.shape[1], "i8")
    if min(matrix.shape) < 2 or min(matrix.shape) > MOST_UPSTREAM:
        return none, 1
    values, right = _singular(_normalised(matrix))
    count = int(np.clip(np.count_nonzero(values > SAME_BLOCK), 1, MOST_WORKERS))
    return (_memberships(right, count) if count > 1 else none), count


def _exchanged(downstream: Array, upstream: Array, probability: Array) -> Array:
    matrix = np.zeros((int(downstream.max(initial=-1)) + 1, int(upstream.max(initial=-1)) + 1))
    np.add.at(matrix, (downstream, upstream), probability)
    return matrix


def _normalised(matrix: Array) -> Array:
    rows, columns = (np.sqrt(np.maximum(matrix.sum(axis=axis), 1e-12)) for axis in (1, 0))
    return np.asarray(matrix / rows[:, None] / columns[None, :])


def _singular(matrix: Array) -> tuple[Array, Array]:
    """`(singular values, right singular vectors as rows)`, largest first.

    By way of the smaller of the two Gram matrices: few of the many connections on one side meet few on the other. Only large values, which
    lose nothing by being squared, are asked for.
    """
    wide = matrix.shape[0] < matrix.shape[1]
    squares, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    values, vectors = np.sqrt(np.maximum(squares[::-1], 0)), vectors[:, ::-1]
    return values, ((matrix.T @ vectors) / np.maximum(values, 1e-12)).T if wide else vectors.T


def _memberships(right: Array, count: int) -> Array:
    """Which of `count` workers each upstream connection belongs to, by the right singular vectors."""
    place = right[:count].T
    place = place / np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-12)
    centres = [int(np.argmax(np.linalg.norm(right[:count].T, axis=1)))]
    while len(centres) < count:  # the next centre is the connection least like those there are
        centres.append(int(np.argmin(np.max(place @ place[centres].T, axis=1))))
    middle = place[centres]
    for _ in range(20):
        member = np.argmax(place @ middle.T, axis=1)
        middle = np.array([place[member == each].sum(axis=0) if (member == each).any() else middle[each] for each in range(count)])
        middle = middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)
    return np.asarray(member)


@kernel
def overtakings(came: Array, went: Array, group: Array, chosen_came: Array, chosen_went: Array, chosen_group: Array, own: Array) -> Array:
    """For each pair that would come at `came` and go at `went`: how many of the chosen pairs of its group it would overtake, or be by.

    Chosen pairs are sorted by group and by `chosen_came`. `own` is the chosen pair of the same call, which does not count.
    """
    found = np.zeros(len(came), np.int64)
    latest = chosen_went.copy()  # of those of the group up to here
    for here in range(1, len(latest)):
        if chosen_group[here] == chosen_group[here - 1]:
            latest[here] = max(latest[here], latest[here - 1])
    low = 0
    for index in range(len(came)):
        as_before = index > 0 and group[index] == group[index - 1] and came[index] == came[index - 1]
        low, high = (low, low) if as_before else (0, len(chosen_came))
        while low < high:
            middle = (low + high) // 2
            if chosen_group[middle] < group[index] or (chosen_group[middle] == group[index] and chosen_came[middle] < came[index]):
                low = middle + 1
            else:
                high = middle
        here = low - 1
        steps = 0
        while here >= 0 and chosen_group[here] == group[index] and steps < 512 and latest[here] > went[index]:
            if here != own[index] and chosen_went[here] > went[index]:
                found[index] += 1
            here, steps = here - 1, steps + 1
        here = low
        while here < len(chosen_came) and chosen_group[here] == group[index] and chosen_came[here] < went[index]:
            if here != own[index] and chosen_went[here] < went[index]:
                found[index] += 1
            here += 1
    return found


def levels(overtaken: Array) -> Array:
    """Counts of overtakings as levels of a comparison (int64)."""
    return np.searchsorted(np.array([1, 2, 3, 5, 9]), overtaken, side="right")
