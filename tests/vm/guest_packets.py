"""The packets' program is accepted by an older kernel's verifier, whatever packets are chosen by."""

from __future__ import annotations

import pytest

from probes.live.bpf import Program
from probes.live.packets.probe import SOURCE

BY_NET, BY_PORT, BY_ENDPOINT, TRACK = 1, 2, 4, 8  # in packets.c


@pytest.mark.parametrize("conditions", [0, TRACK, BY_NET | BY_PORT | BY_ENDPOINT | TRACK])
def test_the_verifier_accepts_every_form(conditions: int) -> None:
    with Program(SOURCE, {"RINGS": 2, "CONDITIONS": conditions, "FLOWS": 1024, "TC": 1}) as program:
        program.load("see_packet", "socket_filter")
        program.load("see_ingress", "sched_cls")
        program.load("see_egress", "sched_cls")
