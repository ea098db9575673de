"""Where on a connection's path a sighting stands: a packet visits nodes one after the other, and may come back to one.

The chain of translations fixes the order across nodes whose clocks cannot be compared: a node that turns one tuple into the next is visited
between them; a node that sees a tuple without changing it lies between the one that made it and the one that changes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracer.chains import Chain

Place = tuple[int, int]  # (node, tuple as the client's packets have it)


def visits(chain: Chain, places: Sequence[Place], ranked: Sequence[int]) -> dict[Place, int]:
    """For each place its number on the path, equal for what one visit of a node shows. `ranked` are the nodes, nearest the client first."""
    steps: list[tuple[int, set[int]]] = []  # translating visits: node, tuples seen there
    for step in chain.translations:
        if steps and steps[-1][0] == step.node:
            steps[-1][1].update((step.before, step.after))
        else:
            steps.append((step.node, {step.before, step.after}))
    made = {step.after: index for index, (_, tuples) in enumerate(steps) for step in chain.translations if step.after in tuples}
    known = {code for _, tuples in steps for code in tuples}
    rank = {node: position for position, node in enumerate(ranked)}

    def stage(node: int, code: int) -> int:
        for index, (where, tuples) in enumerate(steps):
            if where == node and (code in tuples or code not in known):  # what is in no translation is a half-translated copy
                return 2 * index + 1
        return 2 * (made.get(code, -1) + 1)

    order = {place: (stage(*place), rank.get(place[0], len(rank))) for place in places}
    numbers = {key: number for number, key in enumerate(sorted(set(order.values())))}
    return {place: numbers[key] for place, key in order.items()}
