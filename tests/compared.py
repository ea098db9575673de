"""Sides made for tests: clusters of latencies whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.compare import Fingerprint, Measured, Side, recordings
from analysis.compare.samples import DIRECT, Key, Sample

NAT_FIRST, CONNECT, FAILURES, CONTROL = ("nat-first", ""), ("connect", ""), ("failures", ""), ("request", DIRECT)
PLAIN = Fingerprint(
    modes=("iptables",), rules=189, service_ports=19, services={"shop/web": 3, "shop/api": 2}, kernels=("6.1.0",),
    machines=("amd64, 4 cpu",), nodes=("node-a", "node-b"), captured=("node-a", "node-b"), packets=1009, dropped=0, truncated=0,
    duration_ns=7_000_000_000, requests=211, connections=101, whole=True, recorder_ns_per_packet=None, selections=(),
)  # fmt: skip


def lognormal(clusters: int, seed: int, *, times: float = 1.0, together: float = 0.6) -> Sample:
    """One to five latencies (ns) of each cluster, which share `together` of what varies; all multiplied by `times`."""
    chance = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), chance.integers(1, 6, clusters))
    shared, own = chance.normal(size=clusters)[cluster], chance.normal(size=len(cluster))
    spread = 0.5 * (together**0.5 * shared + (1 - together) ** 0.5 * own)
    return Sample(np.round(30_000 * times * np.exp(spread)), cluster)


def failing(clusters: int, seed: int, share: float) -> Sample:
    """Of every cluster five requests, all of which fail or none: a `share` of clusters fails."""
    chance = np.random.default_rng(seed)
    return Sample(np.repeat((chance.random(clusters) < share).astype("f8"), 5), np.repeat(np.arange(clusters), 5))


def of(samples: dict[Key, Sample], clusters: int, asked: tuple[str, ...] = ("shop/web http GET /",)) -> Measured:
    """What was measured; every cluster asked each of `asked` in turn."""
    mix: dict[str, list[int]] = {what: [] for what in asked}
    for cluster in range(clusters):
        mix[asked[cluster % len(asked)]].append(cluster)
    return Measured(
        samples,
        clusters,
        1_000_000 * np.random.default_rng(7).permutation(clusters),
        {what: np.array(each, "i8") for what, each in mix.items()},
    )


def side(name: str, measured: Measured, mode: str = "iptables", accounts: Sequence[bytes] = (), **facts: object) -> Side:
    return Side(name, replace(PLAIN, **{"modes": (mode,), **facts}), measured, recordings(accounts))  # type: ignore[arg-type]  # any of its facts


def accounts(count: int, seed: int, cost_ns: float) -> list[bytes]:
    """NODE.recording.json of `count` recordings whose filter took `cost_ns` per packet, a tenth more or less."""
    chance = np.random.default_rng(seed)
    return [
        json.dumps({"start_ns": at, "probes": {"packets": {"seen": 1009, "cost_ns": round(1009 * cost_ns * factor)}}}).encode()
        for at, factor in enumerate(chance.lognormal(0, 0.1, count).tolist())
    ]
