"""The union-find that keeps which way each leg runs, against one that only paints."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.components import Components

COUNT = 12
LEGS = st.integers(0, COUNT - 1)


@settings(deadline=None)  # the first call compiles
@given(
    joins=st.lists(st.tuples(LEGS, LEGS, st.integers(0, 1)), max_size=30), split=st.integers(0, 30),
    known=st.none() | st.lists(st.sampled_from((-1, -1, 5, 6)), min_size=COUNT, max_size=COUNT),
)  # fmt: skip
def test_partition_and_parity_are_those_of_painting(joins: list[tuple[int, int, int]], split: int, known: list[int] | None) -> None:
    found = Components(COUNT, None if known is None else np.array(known, "i8"))
    for part in (joins[:split], joins[split:]):
        one, other, opposed = (np.array([row[column] for row in part], "i8") for column in range(3))
        found.join(one, other, opposed)
    colour, side, contradictions = list(range(COUNT)), [0] * COUNT, 0
    for one_leg, other_leg, turned in joins:
        if colour[one_leg] == colour[other_leg]:
            contradictions += side[one_leg] ^ side[other_leg] ^ turned
            continue
        both = {colour[one_leg], colour[other_leg]}
        if known is not None and len({known[leg] for leg in range(COUNT) if colour[leg] in both} - {-1}) > 1:
            continue  # of two connections
        flip, old = side[one_leg] ^ side[other_leg] ^ turned, colour[other_leg]
        for leg in range(COUNT):
            if colour[leg] == old:
                colour[leg], side[leg] = colour[one_leg], side[leg] ^ flip
    roots, parity = found.roots()
    assert found.contradictions == contradictions
    for leg in range(COUNT):
        members = [other for other in range(COUNT) if colour[other] == colour[leg]]
        assert roots[leg] == min(members)
        assert [parity[leg] ^ parity[other] for other in members] == [side[leg] ^ side[other] for other in members]


def test_a_leg_alone_is_its_own_root() -> None:
    roots, parity = Components(3).roots()
    assert roots.tolist() == [0, 1, 2]
    assert parity.tolist() == [0, 0, 0]
