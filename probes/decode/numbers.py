"""Numbers of the protocols, as their registries spell them (IANA, IEEE 802, tcpdump's LINKTYPE list)."""

from __future__ import annotations

# EtherTypes
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
VLAN, QINQ, QINQ_OLD = 0x8100, 0x88A8, 0x9100
TRANSPARENT_ETHERNET_BRIDGING = 0x6558

# IP protocol numbers
HOPOPTS, ICMP, IPIP, TCP, UDP, SIX_IN_FOUR, ROUTING, FRAGMENT, GRE, ESP, AH, ICMPV6, DSTOPTS, SCTP, MOBILITY = (
    0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, 132, 135,
)  # fmt: skip

# UDP ports of tunnels: VXLAN (RFC 7348; 8472 is Linux's older default, which flannel keeps), Geneve (RFC 8926)
VXLAN_PORT, VXLAN_PORT_LINUX, GENEVE_PORT = 4789, 8472, 6081

# `tunnel` column
PLAIN, VXLAN, GENEVE, IP_IN_IP, GRE_TUNNEL = 0, 1, 2, 3, 4
TUNNELS = {VXLAN: "vxlan", GENEVE: "geneve", IP_IN_IP: "ipip", GRE_TUNNEL: "gre"}

# `view` column
PACKET, OUTER, EMBEDDED = 0, 1, 2

# `direction` column
UNKNOWN, IN, OUT = 0, 1, 2

# bits of the `known` column
PORTS, SEQUENCE, TIMESTAMPS, MORE_FRAGMENTS = 1, 2, 4, 8

# TCP flags (RFC 9293, 3.1)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# Bytes of payload that `payload_hash` covers: what a snaplen of 128 leaves of a DNS query inside VXLAN, and enough to hold its id and name.
PAYLOAD_PREFIX = 24

PROTOCOL_NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6", SCTP: "sctp"}
PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}
