"""What can be asked of a made bundle."""

from __future__ import annotations

from dataclasses import dataclass

MODES = ("iptables", "nftables", "ipvs")
PROXIES = ("none", "ids", "no-ids")

MOST_NODES, MOST_SERVICES, MOST_PODS_OF_A_NODE = 200, 2000, 240
WHOLE_PACKETS = 262144  # tcpdump's snapshot length
MOST_RATE_HZ, MOST_SKEW_MS = 1_000_000, 86_400_000


@dataclass(frozen=True, slots=True)
class Amount:
    """How much: the first of the three that is given. `packets` counts records of the captures and is reached within one request."""

    packets: int | None = None
    requests: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """A made cluster and its traffic. Shares are of 1; `pods` are those of each Service; `snaplen` is in bytes."""

    seed: int = 1
    nodes: int = 3
    services: int = 7
    pods: int = 3
    mode: str = "iptables"
    proxies: str = "ids"
    rate_hz: float = 500.0  # requests a second
    skew_ms: float = 0.0  # clocks of all nodes but the first are off by up to this much, and drift
    loss: float = 0.0  # share of packets lost on the way and sent again
    gso: bool = False  # some answers are large, in packets of many segments
    reuse: float = 0.0  # share of connections whose client had the same socket address to the same Service just before
    snaplen: int = WHOLE_PACKETS
    l4_only: bool = False  # bytes that no dissector knows instead of HTTP

    def check(self) -> None:
        """ValueError, with the remedy, where no such cluster can be made."""
        pods_of_a_node = -(-self.services * self.pods // max(self.nodes, 1)) + 4
        for wrong, what in (
            (self.mode not in MODES, f"mode {self.mode}: not one of {', '.join(MODES)}"),
            (self.proxies not in PROXIES, f"proxies {self.proxies}: not one of {', '.join(PROXIES)}"),
            (not 1 <= self.nodes <= MOST_NODES, f"{self.nodes} nodes: give 1 to {MOST_NODES}"),
            (not 1 <= self.services <= MOST_SERVICES, f"{self.services} Services: give 1 to {MOST_SERVICES}"),
            (self.pods < 1, f"{self.pods} pods of each Service: give at least 1"),
            (
                pods_of_a_node > MOST_PODS_OF_A_NODE,
                f"{pods_of_a_node} pods a node are more than {MOST_PODS_OF_A_NODE}: give more nodes, fewer Services or fewer pods",
            ),
            (not 0 <= self.loss <= 0.5, f"loss {self.loss}: give a share from 0 to 0.5"),
            (not 0 <= self.reuse <= 0.5, f"reuse {self.reuse}: give a share from 0 to 0.5"),
            (not 0 < self.rate_hz <= MOST_RATE_HZ, f"{self.rate_hz} requests a second: give more than 0, and {MOST_RATE_HZ:,} at most"),
            (not 0 <= self.skew_ms <= MOST_SKEW_MS, f"skew {self.skew_ms} ms: give 0 to {MOST_SKEW_MS:,}"),
            (not 60 <= self.snaplen <= WHOLE_PACKETS, f"snaplen {self.snaplen}: give 60 to {WHOLE_PACKETS} bytes"),
        ):
            if wrong:
                raise ValueError(what)
