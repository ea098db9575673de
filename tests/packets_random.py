"""Hypothesis strategies for packets: every layer of `packets`, in any sensible order, with any values."""

from __future__ import annotations

from hypothesis import strategies as st
from packets import (
    ETHERNET,
    LOOP,
    NOP,
    NULL,
    RAW,
    SACK_PERMITTED,
    SLL,
    SLL2,
    Layer,
    arp,
    authentication,
    destination,
    echo,
    echo6,
    ethernet,
    fragment,
    geneve,
    gre,
    hop_by_hop,
    icmp,
    icmp6,
    ip4,
    ip6,
    mss,
    null,
    routing,
    sack,
    scale,
    sctp,
    sctp_data,
    sctp_init,
    sll,
    sll2,
    tcp,
    timestamps,
    udp,
    vxlan,
)

ADDRESSES4 = st.ip_addresses(v=4).map(str)
ADDRESSES6 = st.ip_addresses(v=6).filter(lambda address: not address.ipv4_mapped).map(str)  # tables keep IPv4 as those
BYTE, U16, U32 = st.integers(0, 255), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
PORTS = st.integers(52_000, 52_999)  # no protocol's own, so that no dissector looks further
PAYLOADS = st.binary(max_size=60)

OPTIONS = st.lists(
    st.one_of(
        st.builds(mss, U16), st.builds(timestamps, U32, U32), st.builds(scale, st.integers(0, 14)), st.builds(sack, st.tuples(U32, U32)),
        st.just(NOP), st.just(SACK_PERMITTED),
    ),
    max_size=3, unique_by=lambda option: option[0],
).map(b"".join)  # fmt: skip
FLAGS = st.sets(st.sampled_from("FSRPAUEC")).map("".join)
SEGMENTS = st.builds(tcp, PORTS, PORTS, FLAGS, PAYLOADS, seq=U32, ack=U32, window=U16, options=OPTIONS)
DATAGRAMS = st.builds(udp, PORTS, PORTS, PAYLOADS)
CHUNKS = st.one_of(st.builds(sctp_data, U32, st.binary(min_size=1, max_size=40)), st.builds(sctp_init, st.integers(1, 2**32 - 1), U32))
MESSAGES = st.builds(sctp, PORTS, PORTS, U32, CHUNKS)
TRANSPORTS = st.one_of(SEGMENTS, DATAGRAMS, MESSAGES)
PINGS4 = st.builds(echo, U16, U16, PAYLOADS, st.booleans())
PINGS6 = st.builds(echo6, U16, U16, PAYLOADS, st.booleans())
EXTENSIONS = st.lists(
    st.one_of(
        st.builds(hop_by_hop, st.sampled_from((8, 16))), st.builds(destination, st.sampled_from((8, 24))), st.just(routing()),
        st.just(authentication()), st.builds(fragment, U32),
    ),
    max_size=3, unique_by=lambda extension: extension.number,
).map(lambda found: sorted(found, key=lambda extension: extension.number != 0))  # hop-by-hop stands first  # fmt: skip


def packets4(inner: st.SearchStrategy[Layer]) -> st.SearchStrategy[Layer]:
    options = st.sampled_from((b"", b"\x94\x04\0\0", b"\x01" * 8))
    return st.builds(ip4, ADDRESSES4, ADDRESSES4, inner, ttl=BYTE, ip_id=U16, options=options)


def packets6(inner: st.SearchStrategy[Layer]) -> st.SearchStrategy[Layer]:
    return st.builds(
        lambda src, dst, inner, extensions, hops: ip6(src, dst, inner, *extensions, hops=hops),
        ADDRESSES6, ADDRESSES6, inner, EXTENSIONS, BYTE,
    )  # fmt: skip


PLAIN4 = packets4(st.one_of(TRANSPORTS, PINGS4))
PLAIN6 = packets6(st.one_of(TRANSPORTS, PINGS6))
PLAIN = st.one_of(PLAIN4, PLAIN6)
ERRORS = st.one_of(
    packets4(st.builds(icmp, st.sampled_from((3, 4, 5, 11, 12)), st.integers(0, 1), PLAIN4)),
    packets6(st.builds(icmp6, st.integers(1, 4), st.integers(0, 1), PLAIN6)),
)
FRAGMENTS = st.builds(ip4, ADDRESSES4, ADDRESSES4, st.binary(min_size=8, max_size=40), ip_id=U16, offset=st.integers(1, 2**13 - 1),
                      more=st.booleans(), protocol=st.sampled_from((6, 17)))  # fmt: skip
VLANS = st.lists(st.tuples(st.sampled_from((0x8100, 0x88A8)), st.integers(1, 4094)), max_size=2)


def tunnels(inner: st.SearchStrategy[Layer]) -> st.SearchStrategy[Layer]:
    """Packets that carry one of `inner`."""
    frames = st.builds(ethernet, inner, VLANS)
    vnis = st.integers(0, 2**24 - 1)
    keys = st.one_of(st.none(), U32)
    carried = st.one_of(
        st.builds(lambda port, to, vni, frame: udp(port, to, vxlan(vni, frame)), PORTS, st.sampled_from((4789, 8472)), vnis, frames),
        st.builds(lambda port, vni, packet, size: udp(port, 6081, geneve(vni, packet, bytes(size))), PORTS, vnis, st.one_of(frames, inner),
                  st.sampled_from((0, 4, 12))),
        st.builds(gre, st.one_of(frames, inner), key=keys, checksum=st.booleans(), sequence=keys),
        inner,
    )  # fmt: skip
    return st.one_of(packets4(carried), packets6(carried))


ONCE_TUNNELLED = tunnels(st.one_of(PLAIN, ERRORS))
PACKETS = st.one_of(PLAIN, ERRORS, FRAGMENTS, ONCE_TUNNELLED, tunnels(tunnels(PLAIN)))

FRAMES = {  # by link type
    ETHERNET: st.one_of(st.builds(ethernet, PACKETS, VLANS), st.just(ethernet(arp()))),
    SLL: st.builds(sll, PACKETS, st.integers(0, 4)),
    SLL2: st.builds(sll2, PACKETS, st.integers(1, 40), st.integers(0, 4)),
    RAW: PACKETS,
    NULL: st.builds(null, PACKETS, st.booleans()),
    LOOP: st.builds(null, PACKETS, st.just(True)),
}
