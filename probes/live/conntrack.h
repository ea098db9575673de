// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// What a conntrack entry in the kernel's memory says of itself.
#pragma once
#include "skb.h"

#define NFCT_INFO 7ul  // the bits of skb->_nfct that are no pointer: enum ip_conntrack_info (include/linux/skbuff.h, NFCT_INFOMASK)
#define CONFIRMED (1ul << 3)  // IPS_CONFIRMED, include/uapi/linux/netfilter/nf_conntrack_common.h

// The thread that runs, or the processor where that is idle and an interrupt runs.
INLINE u64 thread(void)
{
    u64 id = bpf_get_current_pid_tgid();
    return id ? id : 1ull << 63 | bpf_get_smp_processor_id();
}

// One direction of an entry. Ports in the host's order; of ICMP its identifier, twice.
struct direction {
    u8 src[16], dst[16];
    u16 sport, dport;
};

INLINE struct nf_conn *entry_of(struct sk_buff *skb)
{
    unsigned long nfct = 0;
    FETCH(nfct, skb, _nfct);
    return (struct nf_conn *)(nfct & ~NFCT_INFO);
}

// 0 for what is neither IPv4 nor IPv6.
INLINE u8 read_direction(struct nf_conn *entry, int way, struct direction *to)
{
    struct nf_conntrack_tuple tuple = {};
    u8 proto;
    FETCH(tuple, entry, tuplehash[way].tuple);
    proto = tuple.dst.protonum;
    if (tuple.src.l3num == 2) {
        mapped(to->src, &tuple.src.u3);
        mapped(to->dst, &tuple.dst.u3);
    } else if (tuple.src.l3num == 10) {
        __builtin_memcpy(to->src, &tuple.src.u3, 16);
        __builtin_memcpy(to->dst, &tuple.dst.u3, 16);
    } else {
        return 0;
    }
    to->sport = __builtin_bswap16(tuple.src.u.all);
    to->dport = proto == ICMP || proto == ICMP6 ? to->sport : __builtin_bswap16(tuple.dst.u.all);
    return proto;
}

INLINE u32 netns_of_entry(struct nf_conn *entry)
{
    struct net *net = 0;
    FETCH(net, entry, ct_net.net);
    return netns_of(net);
}
