"""A process of its own: datagrams to ever new destinations at a steady rate, each a new conntrack entry that a DNAT rule translates.

    python datagram_load.py RATE COUNT

It prints how long it took, in seconds.
"""

from __future__ import annotations

import socket
import sys
import time

PER_STEP = 50
# Run in a namespace of its own first: every datagram's destination is translated; nothing answers.
RULES = """
ip link set lo up
ip route add local 10.9.0.0/16 dev lo
iptables-nft -t nat -A OUTPUT -d 10.9.0.0/16 -p udp -j NETMAP --to 127.9.0.0/16
iptables-nft -A OUTPUT -p icmp --icmp-type destination-unreachable -j DROP
"""


def destination(number: int) -> tuple[str, int]:
    return f"10.9.{number >> 15 & 255}.1", 1024 + (number & 0x7FFF)


def main(rate: int, count: int) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    began = time.perf_counter()
    for number in range(count):
        sock.sendto(b"x", destination(number))
        if number % PER_STEP == 0:
            ahead = number / rate - (time.perf_counter() - began)
            if ahead > 0:
                time.sleep(ahead)
    sys.stdout.write(f"{time.perf_counter() - began:.3f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
