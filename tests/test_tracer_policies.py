"""Whether packets kept a Service's policies: traffic policies, affinity, hairpin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from probes import addresses
from tracer.affinity import affine, affinities
from tracer.cluster import Owner, ServicePort
from tracer.names import Named
from tracer.pipeline import Reconstruction
from tracer.policies import policies
from tracer.schema import TRANSLATIONS, TUPLES

CLIENT, VIP, POD, OTHER, GATEWAY = "172.30.0.100", "10.96.0.1", "10.244.1.2", "10.244.2.3", "10.244.1.1"


def tables(tuples: list[tuple[str, str]], translating_node: int = 0) -> Reconstruction:
    table = TUPLES.empty() | {"sport": np.zeros(len(tuples), "u2")}
    for side, ends in (("src", [src for src, _ in tuples]), ("dst", [dst for _, dst in tuples])):
        table[f"{side}_hi"], table[f"{side}_lo"] = (np.array([addresses.parse(end)[half] for end in ends], "u8") for half in (0, 1))
    steps = TRANSLATIONS.empty()
    steps |= {"connection": np.array([0], "i4"), "position": np.array([0], "i4"), "node": np.array([translating_node], "i4")}
    return cast("Reconstruction", SimpleNamespace(tuples=table, translations=steps, nodes=("node-a", "node-b")))


def service(via: str = "ClusterIP", **fields: Any) -> ServicePort:
    wanted: dict[str, Any] = {
        "namespace": "shop", "name": "web", "port": 80, "protocol": "tcp", "via": via, "session_affinity": "None",
        "external_traffic_policy": None, "internal_traffic_policy": None,
    }  # fmt: skip
    return cast("ServicePort", SimpleNamespace(**(wanted | fields)))


EXTERNAL = Owner("external", CLIENT)
ON_A, ON_B = (Owner("pod", f"web-{node}", "shop", node=f"node-{node}", uid=node) for node in "ab")


def named(client: Owner, server: Owner, asked: ServicePort) -> Named:
    return Named(0, 1, 0.99, 0, 0, client, server, asked)


LOCAL = {"external_traffic_policy": "Local"}
INSIDE = {"internal_traffic_policy": "Local"}
CASES: tuple[tuple[str, tuple[str, str], Named, list[tuple[str, bool]]], ...] = (
    ("no policy", (CLIENT, POD), named(EXTERNAL, ON_A, service("NodePort")), []),
    ("external Local kept", (CLIENT, POD), named(EXTERNAL, ON_A, service("NodePort", **LOCAL)), [("externalTrafficPolicy", True)]),
    (
        "external Local, source lost",
        (GATEWAY, POD),
        named(EXTERNAL, ON_A, service("NodePort", **LOCAL)),
        [("externalTrafficPolicy", False)],
    ),
    (
        "external Local, another node",
        (CLIENT, POD),
        named(EXTERNAL, ON_B, service("LoadBalancer", **LOCAL)),
        [("externalTrafficPolicy", False)],
    ),
    ("external Local asked for by a pod", (CLIENT, POD), named(ON_A, ON_B, service("LoadBalancer", **LOCAL)), []),
    (
        "internal Local kept",
        (POD, OTHER),
        named(ON_A, Owner("pod", "x", "shop", node="node-a", uid="x"), service(**INSIDE)),
        [("internalTrafficPolicy", True)],
    ),
    ("internal Local broken", (POD, OTHER), named(ON_A, ON_B, service(**INSIDE)), [("internalTrafficPolicy", False)]),
    ("hairpin rewritten", (GATEWAY, POD), named(ON_A, ON_A, service()), [("hairpin", True)]),
    ("hairpin with its own address", (CLIENT, POD), named(ON_A, ON_A, service()), [("hairpin", False)]),
)


@pytest.mark.parametrize(("translated", "each", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_policies(translated: tuple[str, str], each: Named, expected: list[tuple[str, bool]]) -> None:
    found = policies(tables([(translated[0] if translated[0] == POD else CLIENT, VIP), translated]), [each])
    assert [(policy.name, policy.held) for policy in found.get(0, [])] == expected
    assert all(policy.why for policy in found.get(0, []))


def test_affinity_is_judged_from_the_second_connection_on() -> None:
    asked = service(session_affinity="ClientIP")
    steps = [
        Named(0, 1, 0.9, 0, 0, EXTERNAL, ON_A, asked),
        Named(0, 1, 0.9, 0, 0, EXTERNAL, ON_A, asked),
        Named(0, 2, 0.9, 0, 0, EXTERNAL, ON_B, asked),
    ]
    found = dict(affinities(affine(tables([(CLIENT, VIP), (CLIENT, POD), (CLIENT, OTHER)]), steps)))
    assert [found[number].held for number in range(3)] == [True, True, False]
    assert [found[number].why for number in range(3)] == [
        "first connection of this client",
        "same endpoint as before",
        "another endpoint than before",
    ]


def test_what_is_not_known_is_not_judged() -> None:
    asked = service("NodePort", session_affinity="ClientIP", **LOCAL)
    half = Named(0, -1, 0.9, 0, 0, EXTERNAL, None, asked)
    nobody = Named(-1, 1, 0.9, 0, -1, None, ON_A, None)
    assert policies(tables([(CLIENT, VIP), (CLIENT, POD)]), [half, nobody]) == {}
    assert affine(tables([(CLIENT, VIP), (CLIENT, POD)]), [half, nobody]) == []
