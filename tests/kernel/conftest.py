"""Labs: one per flavour of rules, recorded once for all tests of a session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analysis.records import Recorder
from tracer.bundle import read_bundle
from tracer.trace import Trace, trace

from .cases import Case, run_cases, warm_up
from .lab import lab, missing
from .recording import bundle, recording
from .rules import install
from .services import NODES
from .shop_servers import absent, shop_servers
from .shopping import Shop
from .traffic import Attempt, servers

Record = dict[str, Any]
FLAVOURS = {"iptables-nft": True, "iptables-legacy": True, "nftables": False}  # name: whether pods share a bridge (see lab.lab)


@dataclass(frozen=True)
class Recorded:
    """A recorded lab: the folder of its bundles, and what really happened."""

    root: Path
    attempts: list[Attempt]
    bridged: bool

    @cache  # noqa: B019 (a session's few labs)
    def traced(self, name: str, *, ledger: bool) -> tuple[Trace, list[Record]]:
        """hopline's answer about one of its bundles."""
        found = trace(read_bundle([bundle(self.root, name)], use_ledger=ledger))
        return found, list(Recorder(found))

    @cache  # noqa: B019
    def matched(self, name: str, *, ledger: bool) -> Matched:
        return match(self.attempts, self.traced(name, ledger=ledger)[1])

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True)
class Matched:
    """Attempts with the records of their original tuple, in order of time; the records nobody made."""

    pairs: dict[int, Record]  # position in the attempts
    numbers: dict[tuple[str, str, str], tuple[int, int]]  # original tuple: how many attempts and records
    extra: list[Record]


def match(attempts: list[Attempt], records: list[Record]) -> Matched:
    """Pair by the original tuple; a record without one by the translated tuple of an attempt that nothing else matched."""
    made: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    found: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    nameless, extra, pairs = {}, [], {}
    for position, attempt in sorted(enumerate(attempts), key=lambda item: item[1].started_ns):
        made[attempt.proto, *attempt.original].append(position)
    for record in sorted(records, key=lambda record: record["start_ns"]):
        tuple_, end = record["original"], record["translated"]
        if tuple_:
            found[tuple_["proto"], tuple_["src"], tuple_["dst"]].append(record)
        elif end and (end["src"], end["dst"]) not in nameless:
            nameless[end["src"], end["dst"]] = record
        else:
            extra.append(record)
    numbers = {key: (len(positions), len(found.get(key, []))) for key, positions in made.items()}
    for key, positions in made.items():
        records_here = found.pop(key, [])
        pairs |= dict(zip(positions, records_here, strict=False))
        extra += records_here[len(positions) :]
        for position in positions[len(records_here) :]:
            translated = attempts[position].translated
            if translated in nameless:
                pairs[position] = nameless.pop(translated)
    extra += [*nameless.values(), *(record for left in found.values() for record in left)]
    return Matched(pairs, numbers, extra)


def record_lab(flavour: str, folder: Path, *, bridged: bool) -> Recorded:
    """Build a lab, run all cases under tcpdump and conntrack."""
    with lab(flavour.replace("tables", ""), bridge_nf=bridged) as built:
        install(built, flavour)
        with servers(built) as traffic:
            warm_up(traffic)
            with recording(built, folder):
                run_cases(traffic)
    return Recorded(folder, traffic.attempts, bridged)


@pytest.fixture(scope="session", params=FLAVOURS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    reason = missing()
    if reason:
        pytest.skip(reason)
    return record_lab(request.param, tmp_path_factory.mktemp(request.param), bridged=FLAVOURS[request.param])


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop behind an ingress, open for all tests of a session."""
    reason = missing() or absent()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("shop")
    with lab("shop", bridge_nf=True) as built:
        install(built, "iptables-nft")
        with shop_servers(built, folder) as app:
            yield Shop(built, app, folder)


def key_of(case: Case, family: int) -> str:
    """How attempts of a case name it."""
    return f"{case.name} v{(4, 6)[family]}"


__all__ = ["NODES", "Matched", "Recorded", "key_of", "match"]
