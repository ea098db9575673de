"""Whose call it was, told by the order in which threads use their sockets: a crowd of equal requests through real nginx, no identifiers."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kernel.lab import Lab, lab, missing
from kernel.rules import install
from kernel.services import NODES, PODS
from kernel.shop import SITES
from kernel.shop_servers import absent, shop_servers
from kernel.shopping import Asked, Shop, Visit, Visitor

from probes.live.bpf import BpfError
from probes.live.clock import Clock
from probes.live.sockets import SocketProbe, ThreadProbe

SO_NETNS_COOKIE = 71
CROWD, REQUESTS = 16, 211


@contextmanager
def watching(folder: Path) -> Iterator[None]:
    """Both probes, drained as the recorder does it."""
    try:
        probes: list[SocketProbe | ThreadProbe] = [
            SocketProbe(folder / "sockets.jsonl", Clock()),
            ThreadProbe(folder / "threads.jsonl", Clock()),
        ]
    except (BpfError, OSError) as error:
        pytest.skip(str(error))
    done = threading.Event()

    def drain() -> None:
        while not done.wait(0.02):
            for each in probes:
                each.drain()

    draining = threading.Thread(target=drain)
    draining.start()
    try:
        yield
    finally:
        done.set()
        draining.join()
        for each in probes:
            each.close()
            assert each.counters()["dropped"] == 0


def share(built: Lab, folder: Path, bundle: Path) -> None:
    """One kernel is all machines here: each gets the lines of its own namespaces."""
    homes = {_netns(built, place): PODS[place].node if place in PODS else place for place in (*NODES, *PODS)}
    about, *lines = (folder / "sockets.jsonl").read_text().splitlines(keepends=True)
    node_of = {entry["socket"]: homes.get(entry["netns"]) for entry in map(json.loads, lines)}
    uses = (folder / "threads.jsonl").read_text().splitlines(keepends=True)
    for node in NODES:
        (bundle / f"{node}.sockets.jsonl").write_text(
            about + "".join(line for line in lines if node_of[json.loads(line)["socket"]] == node)
        )
        (bundle / f"{node}.threads.jsonl").write_text("".join(line for line in uses if node_of.get(json.loads(line)["socket"]) == node))


def _netns(built: Lab, place: str) -> int:
    with built.socket(place, socket.AF_INET, socket.SOCK_DGRAM) as mine:
        return int.from_bytes(mine.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    reason = missing() or absent()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("threads")
    with lab("threads", bridge_nf=True) as built:
        install(built, "iptables-nft")
        with shop_servers(built, folder) as app:
            yield Shop(built, app, folder)


def crowd(shop: Shop, site: str) -> Iterable[Asked]:
    tokens = [next(shop.tokens) for _ in range(REQUESTS)]

    def ask(visitor: Visitor, number: int) -> Asked:
        return visitor.ask(tokens[number], SITES[site].host, "/nap")

    return shop.together(CROWD, REQUESTS, ask)


@pytest.mark.parametrize("site", ["keep", "service"])
def test_the_order_of_reads_and_writes_tells_parents(shop: Shop, tmp_path: Path, site: str) -> None:
    """`keep` uses its upstream connections again, `service` opens one for every request."""
    with watching(tmp_path):
        visit = shop.visit(f"crowd {site}", lambda shop: crowd(shop, site))
    without = visit.records.told(("edge",))
    share(shop.lab, tmp_path, visit.bundle)
    found = Visit(visit.bundle, visit.asked, visit.served, visit.calls).records.told(("edge",))
    assert len(found) == len(without) == REQUESTS
    assert sum(right for _, _, right in found) == REQUESTS >= sum(right for _, _, right in without)
    assert {"thread" in record["parent_evidence"] for record, _, _ in found} == {True}
