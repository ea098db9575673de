"""A Service that the cluster's objects do not have is known by kube-proxy's rules: whoever asked for it did not ask anyone directly."""

from __future__ import annotations

import pytest
from cluster_objects import NOON, listed, node, pod, service
from test_rules import RULES
from wire import START_NS, packet, traced

from probes.decode.numbers import IN
from tracer.cluster import Timeline
from tracer.names import Naming
from tracer.rule_services import judge_direct
from tracer.surroundings import Surroundings

CLUSTER = listed(node("node-a", "172.30.0.11", "10.244.0.0/24"), pod("toolbox", "10.244.0.3"), service("other", "10.96.0.7"))
WHEN_MS = NOON * 1000 - START_NS / 1e6 + 30_000


@pytest.mark.parametrize("mode", RULES)
@pytest.mark.parametrize(
    ("asked", "direct"),
    [
        pytest.param("10.96.10.1:80", False, id="a-cluster-ip"),
        pytest.param("172.30.0.11:30081", False, id="a-node-port"),
        pytest.param("10.96.10.1:81", True, id="no-port-of-it"),
        pytest.param("203.0.113.9:30081", True, id="no-node"),
        pytest.param("172.30.0.11:10250", True, id="a-node"),
    ],
)
def test_what_the_rules_have_was_not_asked_for_directly(mode: str, asked: str, direct: bool) -> None:
    found, timeline = traced([packet(WHEN_MS, "10.244.0.3:40000", asked, "S", direction=IN, seq=1)], "node-a/veth1"), Timeline(CLUSTER)
    named = list(Naming(found, timeline, {}, Surroundings({}, frozenset({"node-a"}))).all())
    assert named[0].direct
    judge_direct(found, named, timeline, {"node-a": RULES[mode]})
    assert named[0].direct == direct
    assert any("the cluster's objects do not" in problem for problem in named[0].problems) != direct
