"""What `hopline record` says of itself in NODE.recording.json, as far as two sides are compared by it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from analysis.compare.samples import RECORDING, Measured, Sample

Json = dict[str, Any]
_DRAWN = "seed"  # of a selection: which connections are kept, not how many


def read(contents: Iterable[bytes]) -> list[Json]:
    """The accounts; of what is none, an empty one (reading the bundle has said so)."""
    return [_read(content) for content in contents]


def _read(content: bytes) -> Json:
    try:
        told = json.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def cost(account: Json) -> tuple[int, int]:
    """(ns, packets): what its packets probes took in the packet path, by their own clock, and how many packets they saw."""
    probes = account.get("probes")
    counted = [each for each in probes.values() if isinstance(each, dict)] if isinstance(probes, dict) else []
    known = [each for each in counted if isinstance(each.get("cost_ns"), int) and isinstance(each.get("seen"), int)]
    return sum(each["cost_ns"] for each in known), sum(each["seen"] for each in known)


def selection(account: Json) -> str:
    """Which packets were asked for, and how much of each; empty where that is not told."""
    asked = account.get("selection")
    facts = sorted(asked.items()) if isinstance(asked, dict) else []
    return ", ".join(f"{name} {value}" for name, value in facts if value and name != _DRAWN)


def recordings(contents: Iterable[bytes]) -> Measured:
    """Each recording's own cost per packet (ns). A cluster is one recording of one node: several of a node count if they began anew."""
    found = [(ns / packets, account) for account in read(contents) for ns, packets in (cost(account),) if packets]
    start_ns = [start if isinstance(start := account.get("start_ns"), int) else 0 for _, account in found]
    values = np.array([each for each, _ in found], "f8")
    return Measured({(RECORDING, ""): Sample(values, np.arange(len(found)))}, len(found), np.array(start_ns, "i8"), {})
