"""Packets lost between the nodes: seen as sent again, missed first behind the link that lost them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from .cases import warm_up
from .conftest import Recorded
from .lab import Lab, lab, missing
from .recording import recording
from .rules import install
from .services import SERVICES
from .traffic import Attempt, servers

LOSE = """
table bridge lossy {
  chain forward {
    type filter hook forward priority 0;
    meta iifname "node-b" meta oifname "node-a" ether type ip udp dport 8472 numgen random mod 100 < 3 counter drop
  }
}
"""
CONNECTIONS, BYTES = 23, 300_000
SEGMENTS_WHOLE = ("link", "set", "dev", "eth0", "gso_max_segs", "1")  # one packet, one segment: what is lost is what is sent again


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, int]:
    """Large answers from node-b to node-a over a link that drops 3 %; also how many packets it dropped."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("loss")
    target = next(service for service in SERVICES if service.name == "self")
    with lab("loss", bridge_nf=True) as built:
        install(built, "iptables-nft")
        built.run("lone", "ip", *SEGMENTS_WHOLE)
        with servers(built) as traffic:
            warm_up(traffic)
            built.run("underlay", "nft", "-f", "-", stdin=LOSE)

            def ask(number: int) -> Attempt:
                return traffic.tcp("loss", "front", (target.vips[number % 2], target.port), size=BYTES)

            with recording(built, folder, ("any",)), ThreadPoolExecutor(4) as pool:
                list(pool.map(ask, range(CONNECTIONS)))
        return Recorded(folder, traffic.attempts, bridged=True), _dropped(built)


def _dropped(built: Lab) -> int:
    words = built.run("underlay", "nft", "list", "ruleset").split()
    return int(words[words.index("packets") + 1])


def test_all_connections_survive(lossy: tuple[Recorded, int]) -> None:
    recorded, _ = lossy
    matched = recorded.matched("any", ledger=False)
    assert [attempt.outcome for attempt in recorded.attempts] == ["closed"] * CONNECTIONS
    assert matched.extra == []
    assert [matched.pairs[position]["status"] for position in range(CONNECTIONS)] == ["closed"] * CONNECTIONS


def test_every_loss_is_between_the_nodes(lossy: tuple[Recorded, int]) -> None:
    recorded, dropped = lossy
    _, records = recorded.traced("any", ledger=False)
    losses = [loss for record in records for loss in record["losses"]]
    missed = [loss for loss in losses if loss["first_missed_at"]]
    assert dropped > 0
    assert missed
    for loss in missed:
        assert (loss["path"], loss["last_seen_at"], loss["first_missed_at"]) == ("reply", "node-b/eth0", "node-a/eth0")
        assert loss["sent_again_after_ns"] > 0


def test_as_much_is_missed_as_was_dropped(lossy: tuple[Recorded, int]) -> None:
    """SYN-ACKs and bare ACKs that were dropped are not all sent again; nothing is missed that was not dropped."""
    recorded, dropped = lossy
    _, records = recorded.traced("any", ledger=False)
    missed = sum(loss["first_missed_at"] is not None for record in records for loss in record["losses"])
    assert 0.8 * dropped <= missed <= dropped
    assert sum(record["retransmissions"] for record in records) >= missed
