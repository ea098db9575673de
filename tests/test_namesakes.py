"""Connections that are called alike are named once: each is named as it would be by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cluster_objects import NOON, event, listed, pod
from hypothesis import given
from hypothesis import strategies as st
from wire import START_NS, packet, traced

from analysis.synth import MODES, Amount, Options, synthesise
from probes.links import Link
from probes.schema import Array
from tracer import names
from tracer.bundle import Bundle, read_bundle
from tracer.cluster import Timeline
from tracer.names import Named, Naming
from tracer.namesakes import Members, namesakes
from tracer.surroundings import Surroundings
from tracer.trace import trace

NOON_MS = NOON * 1000 - START_NS / 1e6 + 30_000
WEB, ALICE = "10.244.0.3", "10.244.0.4"


@pytest.mark.parametrize("use_ledger", [True, False])
@pytest.mark.parametrize("use_cluster", [True, False])
def test_names_are_those_of_each_connection_by_itself(
    sample: Path, use_ledger: bool, use_cluster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike(read_bundle([sample], use_ledger=use_ledger, use_cluster=use_cluster), monkeypatch)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use_ledger", [True, False])
def test_names_of_what_was_made_up(tmp_path: Path, mode: str, use_ledger: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reused ports, lost packets, clocks that differ."""
    synthesise(Options(mode=mode, reuse=0.3, loss=0.05, nodes=3, skew_ms=20.0), Amount(requests=400), tmp_path / "made")
    alike(read_bundle([tmp_path / "made"], use_ledger=use_ledger), monkeypatch)


def alike(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are the same if each connection is named by itself, which some are not."""
    kinds = []

    def noted(*facts: object) -> Array:
        kinds.append(names_of(*facts))
        return kinds[-1]

    names_of: Callable[..., Array] = names.namesakes
    monkeypatch.setattr(names, "namesakes", noted)
    together = trace(bundle).named
    monkeypatch.setattr(names, "namesakes", lambda *facts: np.arange(len(names_of(*facts))))
    assert trace(bundle).named == together
    assert len(set(kinds[0].tolist())) < len(together)


def calls(*ports: int, at_s: tuple[float, ...] = ()) -> list[dict[str, int]]:
    """The pod ALICE calls the pod WEB from each of these ports, a second later each time or `at_s`."""
    rows = []
    for number, port in enumerate(ports):
        ms = NOON_MS + 1000 * (at_s[number] if at_s else number)
        client, server = f"{ALICE}:{port}", f"{WEB}:8080"
        rows.append(packet(ms, client, server, "S", seq=100 * number, tsval=5 + number))
        rows.append(packet(ms + 1, server, client, "SA", seq=900 * number, ack=100 * number + 1, direction=1, tsval=6, tsecr=5 + number))
    return rows


def named(rows: list[dict[str, int]], timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Named], int]:
    """Their names, and how many of them were looked for."""
    looked: list[int] = []
    alone: Callable[[Naming, int], Named] = Naming._named
    monkeypatch.setattr(Naming, "_named", lambda self, connection: looked.append(connection) or alone(self, connection))
    links: dict[str, dict[int, Link]] = {}
    return list(Naming(traced(rows, "node-a/veth1"), timeline, links, Surroundings({}, frozenset({"node-a"}))).all()), len(looked)


def test_a_port_that_a_container_declares_is_not_any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = Timeline(listed(pod("web", WEB), pod("alice", ALICE)))
    found, looked = named(calls(40000, 40001, 8080, 40002), timeline, monkeypatch)
    assert [each.client and each.client.container for each in found] == [None, None, "app", None]
    assert (looked, len({each.original for each in found})) == (2, 4)


def test_whoever_had_an_address_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (pod(name, ALICE, created=created) for name, created in (("alice", 0), ("bob", 40)))
    timeline = Timeline([*listed(pod("web", WEB), one), event(35, "DELETED", one), event(40, "ADDED", other)])
    found, looked = named(calls(40000, 40001, 40002, 40003, at_s=(0, 1, 15, 16)), timeline, monkeypatch)
    assert [each.client and each.client.name for each in found] == ["alice", "alice", "bob", "bob"]
    assert looked == 2


ROLES = ("original", "translated", "first_seen")
FACTS = [
    *(("connections", name) for name in ("proto", "evidence", "status", "origin_node", "first_node", "start_ns", "answer_ns", *ROLES)),
    *(("beside", str(number)) for number in range(2)), ("of_first", ""),
    *((how, role) for how in ("unknown", "equal") for role in ROLES),
    *((role, name) for role in ROLES for name in ("src_hi", "src_lo", "sport", "dst_hi", "dst_lo", "dport")),
]  # fmt: skip


@pytest.mark.parametrize(("where", "which"), FACTS)
def test_each_fact_tells_connections_apart(where: str, which: str) -> None:
    """Two connections, of three tuples each, that share everything but what is changed in one of them."""
    timeline = Timeline([*listed(pod("web", WEB), pod("alice", ALICE)), event(40, "DELETED", pod("alice", ALICE))])
    found = traced(calls(*range(40000, 40006)), "node-a/veth1")
    seen = found.connections["first_seen"].copy()
    connections = {name: column[:1].repeat(2) for name, column in found.connections.items()}
    connections |= {role: seen[[number, number + 3]] for number, role in enumerate(ROLES)}
    tuples = {name: column.copy() for name, column in found.tuples.items()}
    beside, of_first, alone = [np.zeros(2, "u8"), np.zeros(2, bool)], np.zeros(len(tuples["proto"]), "u8"), np.zeros(2, bool)

    def kinds() -> list[int]:
        told: list[int] = namesakes(replace(found, connections=connections, tuples=tuples), timeline, of_first, beside, alone).tolist()
        return told

    assert kinds() == [0, 0]
    if where == "connections":
        other = {"start_ns": connections["start_ns"][1] + 20_000_000_000, "answer_ns": connections["start_ns"][1] + 20_000_000_000}
        connections[which][1] = other.get(which, -1 if which in ROLES else connections[which][1] + 1)
    elif where == "beside":
        beside[int(which)][1] = 1
    elif where == "unknown":
        connections[which][0], connections[which][1] = len(tuples["proto"]) - 1, -1  # which is that very row
    elif where == "equal":
        connections[which][1] = connections[ROLES[ROLES.index(which) - 1]][1]  # they differ in ports that clients picked
    elif where == "of_first":
        of_first[connections["first_seen"][1]] = 7
    else:
        tuples[which][connections[where][1]] = 8080 if which == "sport" else 77
    assert kinds() == [0, 1]


def test_who_is_alone_is_called_like_nobody() -> None:
    found = traced(calls(40000, 40001, 40002), "node-a/veth1")
    nothing = np.zeros(len(found.tuples["proto"]), "u8")
    assert namesakes(found, Timeline(), nothing, [], np.array([False, True, False])).tolist() == [0, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 5))))
def test_members(pairs: list[tuple[int, int]]) -> None:
    owners, members = (np.array([pair[side] for pair in pairs], "i8") for side in (0, 1))
    found, hashes = Members(owners, members), Members(owners, members).hashes(10)
    sets = [sorted({member for owner, member in pairs if owner == each}) for each in range(10)]
    assert [found.of(each) for each in range(10)] == sets
    for one in range(10):
        for other in range(10):
            assert (hashes[one] == hashes[other]) == (sets[one] == sets[other])
