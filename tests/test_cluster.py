"""The timeline: whose an address was, at a moment."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from cluster_objects import NODES, SECOND, VARIED, at, clock, endpoint_slice, event, listed, meta, pod, service, who

from probes.addresses import parse
from tracer.cluster import Owner, Timeline, read_cluster
from tracer.cluster.history import Claim, History
from tracer.cluster.lives import How, Sighting

CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[2] / "shared" / "captures")

needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are not here (HOPLINE_CAPTURES)")


def test_an_empty_timeline_knows_nobody() -> None:
    timeline = Timeline()
    timeline.add_node_address("node-a", parse("10.0.0.1"))
    assert timeline.empty
    assert timeline.owner(parse("10.0.0.1"), at(0)) is None
    assert timeline.service(parse("10.96.0.1"), 443, "tcp", at(0)) is None


SPECIAL = [
    pod("web-1", "10.244.0.7", "fd00:10:244::7", created=5),
    pod("done", "10.244.0.9", phase="Succeeded"),
    pod("agent", "172.30.0.11", "fd00::11", hostNetwork=True),
    service("web", "10.96.1.1", type="LoadBalancer", status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}),
]


@pytest.mark.parametrize(
    ("address", "seconds", "port", "expected"),
    [
        ("10.244.0.7", 6, None, "pod web-1"),
        ("fd00:10:244::7", 6, None, "pod web-1"),
        ("10.244.0.7", 4, None, None),  # not created yet
        ("10.244.0.9", 6, None, None),  # Completed pods give their address up
        ("10.244.0.55", 6, None, None),  # in the podCIDR, nobody's: unknown, and certainly not external
        ("fd00:10:244::99", 6, None, None),
        ("172.30.0.11", 6, None, "node node-a"),
        ("172.30.0.11", 6, 8080, "pod agent"),  # hostNetwork, by its port
        ("172.30.0.11", 6, 8081, "node node-a"),
        ("172.30.0.12", 6, 8080, "node node-b"),  # the same port on another node is not the pod's
        ("10.244.0.0", 6, None, "node node-a"),  # flannel.1
        ("10.244.0.1", 6, None, "node node-a"),  # cni0
        ("10.244.0.1", 6, 8080, "pod agent"),  # which listens on every address of its node
        ("10.96.1.1", 6, None, None),  # a Service is no owner
        ("203.0.113.9", 6, None, None),
        ("198.51.100.4", 6, None, "external"),
        ("2001:db8::1", 6, None, "external"),
    ],
)
def test_an_address_has_the_owner_it_had_then(address: str, seconds: float, port: int | None, expected: str | None) -> None:
    assert who(Timeline.of(NODES + SPECIAL), address, seconds, port) == expected


def test_without_nodes_nothing_is_called_external_and_pods_tell_of_their_nodes() -> None:
    web = pod("web-1", "10.244.0.7")
    web["status"]["hostIP"] = "172.30.0.11"
    timeline = Timeline.of([web])
    assert who(timeline, "198.51.100.4", 1) is None
    assert who(timeline, "172.30.0.11", 1) == "node node-a"


def test_a_pod_on_the_first_address_of_its_network_owns_it() -> None:
    timeline = Timeline.of([*NODES, pod("web-1", "10.244.0.1")])
    assert who(timeline, "10.244.0.1", 1) == "pod web-1"
    assert who(timeline, "10.244.1.1", 1) == "node node-b"


def test_addresses_told_of_by_a_node_are_its_own_unless_several_have_them_or_they_are_a_services() -> None:
    timeline = Timeline.of([*NODES, service("web", "10.96.1.1"), pod("web-1", "10.244.0.7")])
    assert who(timeline, "192.0.2.7", 1) == "external"  # that this was asked is nothing to go by later
    for name in ("node-a", "node-b"):
        timeline.add_node_address(name, parse("172.17.0.1"))
        timeline.add_node_address(name, parse("10.96.1.1"))  # kube-ipvs0
    timeline.add_node_address("node-b", parse("192.0.2.7"))
    timeline.add_node_address("node-b", parse("10.244.0.7"))
    assert who(timeline, "192.0.2.7", 1) == "node node-b"
    assert timeline.owner(parse("172.17.0.1"), at(1)) == Owner("node")
    assert who(timeline, "10.96.1.1", 1) is None
    assert who(timeline, "10.244.0.7", 1) == "pod web-1"


CONTAINERS = [
    {"name": "api", "ports": [{"name": "http", "containerPort": 5000}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
    {"name": "metrics", "ports": [{"name": "prom", "containerPort": 9102, "protocol": "TCP"}, {"containerPort": 7000}]},
    {"name": "other", "ports": [{"containerPort": 7000}]},
    {"name": "none"},
]
SIDECARS = [
    {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]},
    {"name": "setup", "ports": [{"containerPort": 1}]},
]


@pytest.mark.parametrize(
    ("port", "protocol", "container", "port_name"),
    [
        (5000, "tcp", "api", "http"),
        (53, "udp", "api", "dns"),
        (53, "tcp", None, None),
        (9102, "tcp", "metrics", "prom"),
        (7000, "tcp", None, None),  # declared twice
        (15001, "tcp", "proxy", None),  # a sidecar is an init container that stays
        (1, "tcp", None, None),
        (41234, "tcp", None, None),
        (None, "tcp", None, None),
    ],
)
def test_the_container_is_the_one_that_declares_the_port(
    port: int | None, protocol: str, container: str | None, port_name: str | None
) -> None:
    timeline = Timeline.of([pod("api-1", "10.244.0.4", containers=CONTAINERS, initContainers=SIDECARS)])
    owner = timeline.owner(parse("10.244.0.4"), at(1), port, protocol)
    assert owner == Owner("pod", "api-1", "shop", "node-a", container, port_name, "uid-api-1")


def test_watched_pods_hold_an_address_from_getting_it_until_deleted() -> None:
    waiting = pod("new", version=11, created=20)
    waiting["status"] = {"phase": "Pending"}
    terminating = pod("old", "10.244.0.7", version=12)
    terminating["metadata"]["deletionTimestamp"] = clock(52)
    timeline = Timeline(
        [
            *listed(*NODES, pod("old", "10.244.0.7", version=10)),
            event(20.5, "ADDED", waiting),
            event(22.25, "MODIFIED", terminating),
            event(24.5, "DELETED", pod("old", "10.244.0.7", version=14)),
            event(24.75, "MODIFIED", {**waiting, "metadata": {**waiting["metadata"], "resourceVersion": "15"}}),
            event(26.125, "MODIFIED", pod("new", "10.244.0.7", version=16, created=20, started=25)),
            event(30, "MODIFIED", pod("new", "10.244.0.7", version=17, created=20, started=25, phase="Failed")),
        ]
    )
    moments = (-1, 0, 22.3, 24.4999, 24.5, 24.7, 24.8, 26.2, 29.9, 30, 99)
    assert [who(timeline, "10.244.0.7", moment) for moment in moments] == [
        *(None, "pod old", "pod old", "pod old"),  # a terminating pod still owns its address
        *(None, None, None),  # on its node, but it has not reported the address yet
        *("pod new", "pod new"),
        *(None, None),  # failed: given up, though the status still shows it
    ]


def test_between_two_dumps_an_address_stays_with_its_owner_until_the_successor_starts() -> None:
    before = listed(*NODES, pod("old", "10.244.0.7", version=10), pod("gone", "10.244.0.8", version=9), floor=30)
    after = listed(*NODES, pod("new", "10.244.0.7", version=20, created=50, started=52), floor=60)
    for sightings in (before + after, after + before):
        timeline = Timeline(sightings)
        assert [who(timeline, "10.244.0.7", moment) for moment in (10, 51.9, 52, 70)] == ["pod old", "pod old", "pod new", "pod new"]
        assert who(timeline, "10.244.0.8", 59) == "pod gone"


def test_a_watch_beats_the_whole_seconds_of_a_dump() -> None:
    # The successor's startTime is cut to 52 s: its predecessor was deleted at 52.4 s, and for certain it has the address from 53 s on.
    after = pod("new", "10.244.0.7", version=20, created=50, started=52)
    after["status"]["conditions"] = [{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": clock(52)}]
    timeline = Timeline(
        [*listed(pod("old", "10.244.0.7", version=10), after, floor=60), event(52.4, "DELETED", pod("old", "10.244.0.7", version=15))]
    )
    assert [who(timeline, "10.244.0.7", moment) for moment in (52.2, 52.5, 53)] == ["pod old", None, "pod new"]


def test_a_pod_that_had_ended_when_seen_had_its_address_until_its_last_container_finished() -> None:
    job = pod("job", "10.244.0.9", created=10, phase="Succeeded")
    job["status"]["containerStatuses"] = [{"state": {"terminated": {"finishedAt": clock(20)}}}]
    timeline = Timeline.of([*NODES, job])
    assert [who(timeline, "10.244.0.9", moment) for moment in (9, 15, 20.5, 21)] == [None, "pod job", "pod job", None]


def test_a_pod_whose_sandbox_was_rebuilt_changes_its_address() -> None:
    first, second = pod("web-1", "10.244.0.7", version=1), pod("web-1", "10.244.0.8", version=2)
    timeline = Timeline([*listed(*NODES, first), event(40, "MODIFIED", second)])
    assert [who(timeline, "10.244.0.7", moment) for moment in (39, 41)] == ["pod web-1", None]
    assert [who(timeline, "10.244.0.8", moment) for moment in (39, 41)] == [None, "pod web-1"]


def test_a_pod_is_controlled_by_its_deployment_through_its_replica_set() -> None:
    def owned(by: str, name: str, uid: str) -> dict[str, Any]:
        return {"ownerReferences": [{"kind": "X", "name": "no"}, {"kind": by, "name": name, "uid": uid, "controller": True}]}

    web, orphan, lone = pod("web-1", "10.244.0.7"), pod("api-1", "10.244.0.8"), pod("lone", "10.244.0.9")
    web["metadata"] |= owned("ReplicaSet", "web-84", "rs")
    orphan["metadata"] |= owned("ReplicaSet", "api-55", "not in the dump")
    middle = {"kind": "ReplicaSet", "metadata": meta("web-84", uid="rs", **owned("Deployment", "web", "d"))}
    timeline = Timeline.of([web, orphan, lone, middle])
    assert timeline.pod_owner_chain("shop", "web-1", at(1)) == (("Pod", "web-1"), ("ReplicaSet", "web-84"), ("Deployment", "web"))
    assert timeline.workload("shop", "api-1", at(1)) == ("ReplicaSet", "api-55")
    assert timeline.workload("shop", "lone", at(1)) == ("Pod", "lone")
    assert timeline.workload("shop", "nobody", at(1)) is None


def test_objects_are_given_as_they_were_and_secrets_are_never_kept() -> None:
    secret = {"kind": "Secret", "metadata": meta("password"), "data": {"a": "b"}}
    first, second = service("web", "10.96.1.1", version=1), service("web", "10.96.1.1", version=2, type="NodePort")
    timeline = Timeline([*listed(first, secret), event(10, "MODIFIED", second)])
    assert timeline.objects("Secret") == []
    assert [item["spec"]["type"] for moment in (9, 11) for item in timeline.objects("Service", at(moment))] == ["ClusterIP", "NodePort"]
    assert [item["spec"]["type"] for item in timeline.objects("Service")] == ["NodePort"]


def damaged(value: Any, chance: random.Random) -> Any:
    """`value` with one thing in twenty replaced by something that does not belong there."""
    if chance.random() < 0.05:
        return chance.choice([None, "", "x", 7, -1, True, [], [None], {}, {"ip": 3}, 1e300])
    if isinstance(value, dict):
        return {key: damaged(item, chance) for key, item in value.items()}
    return [damaged(item, chance) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(101))
def test_malformed_fields_never_raise(seed: int) -> None:
    chance = random.Random(seed)
    items = [damaged(item, chance) for item in [*NODES, *SPECIAL, *VARIED, endpoint_slice("web", "10.244.0.7"), endpoint_slice("bare")]]
    sightings = [Sighting(How.LISTED, item) for item in items if isinstance(item, dict)]
    sightings += [event(5, "MODIFIED", item) for item in map(lambda i: damaged(i, chance), items) if isinstance(item, dict)]  # noqa: C417
    timeline = Timeline(sightings)
    for address in ("10.244.0.7", "172.30.0.11", "10.96.1.1"):
        timeline.owner(parse(address), at(1), 8080)
        timeline.service(parse(address), 80, "tcp", at(1))
        timeline.services_of_endpoint(parse(address), 8080, "tcp", at(1))
    timeline.endpoints("shop", "web", "http", "tcp", at(1))
    timeline.workload("shop", "web-1", at(1))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([], [None, None, None, None]),
        ([Claim.certain("a", 10, 30)], [None, "a", "a", None]),
        ([Claim.certain("a", 10, 30), Claim.certain("b", 20, 40)], [None, "a", "b", "b"]),  # the later-started wins
        ([Claim.certain("a", 10, 30), Claim("b", 10, 40, 35, 40)], [None, "a", "a", "b"]),  # the certain one wins
        ([Claim("a", 0, 40, 0, 5), Claim("b", 20, 40, 30, 40)], ["a", "a", None, "b"]),  # b may have begun: nobody can tell
        ([Claim("a", 10, 40, 30, 40)], [None, None, None, "a"]),  # it may not have begun
    ],
)
def test_a_history_is_the_winning_claim_at_each_moment(claims: list[Claim[str]], expected: list[str | None]) -> None:
    for order in (claims, claims[::-1]):
        assert [History(order).at(moment) for moment in (1, 15, 25, 36)] == expected


def test_two_certain_holders_are_none_where_there_can_be_only_one() -> None:
    history = History([Claim.certain("a", 10, 30), Claim.certain("b", 20, 40)], exclusive=True)
    assert [history.at(moment) for moment in (15, 25, 35)] == ["a", None, "b"]


@needs_captures
def test_churn_addresses_change_hands_when_the_pods_did() -> None:
    folder = CAPTURES / "iptables" / "churn"
    timeline, problems = read_cluster([folder / name for name in ("watch.jsonl", "cluster.json", "cluster-start.json")])
    assert problems == []
    began = 1795415110.0
    expected = {
        "10.244.1.2": {0: "web-84bf6fc687-rkd4t", 1.14: "web-84bf6fc687-rkd4t", 1.3: None, 1.97: "api-55ff4cd7-hxm8t"},
        "10.244.1.3": {0: "api-55ff4cd7-zjfpl", 1.82: "api-55ff4cd7-zjfpl", 1.84: None, 1.97: "web-84bf6fc687-qsnxc"},
        "10.244.2.6": {0: "echo-5bfdb5c7f8-vk72h", 7.66: "echo-5bfdb5c7f8-vk72h", 7.7: None, 8.47: "web-84bf6fc687-zkzt2"},
    }
    for address, moments in expected.items():
        found = {moment: timeline.owner(parse(address), round((began + moment) * SECOND)) for moment in moments}
        assert {moment: owner and owner.name for moment, owner in found.items()} == moments, address


@needs_captures
def test_dumps_from_before_and_after_give_the_same_owners_away_from_the_change() -> None:
    folder = CAPTURES / "iptables" / "churn"
    watched, _ = read_cluster([folder / "watch.jsonl", folder / "cluster-start.json"])
    dumped, _ = read_cluster([folder / "cluster-start.json", folder / "cluster.json"])
    for address in ("10.244.1.2", "10.244.1.3", "10.244.2.6", "10.244.0.3", "10.96.10.1", "172.30.0.12", "172.30.0.100"):
        for second in (1795415106, 1795415109, 1795415113, 1795415120):
            assert watched.owner(parse(address), second * SECOND) == dumped.owner(parse(address), second * SECOND)
