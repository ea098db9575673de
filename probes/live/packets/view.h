// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// What a packet says of itself: its IP and transport headers, and where the packet begins that a tunnel carries.
#pragma once

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_TEB 0x6558
#define INLINE static __attribute__((always_inline)) inline
#define HEAD_NET 1  // BPF_HDR_START_NET

enum { ICMP = 1, IPIP = 4, TCP = 6, UDP = 17, IP6IN = 41, ROUTING = 43, FRAGMENT = 44, GRE = 47, AH = 51, ICMP6 = 58, DSTOPTS = 60, SCTP = 132 };

// Offsets are from the network header. What could not be read is 0.
struct view {
    u8 src[16], dst[16];
    u16 sport, dport;    // of an echo: its identifier, twice
    u16 ip_id;
    u8 proto, flags;     // TCP flags, ICMP type
    u8 fragment;         // 1 first of several, 2 a later one
    u8 found;            // whether there is an IP header
    u32 l4, payload, end, seq;
};

INLINE int load(struct __sk_buff *skb, u32 at, void *to, u32 bytes)
{
    return bpf_skb_load_bytes_relative(skb, at, to, bytes, HEAD_NET);
}

INLINE void mapped(u8 *to, const u8 *four)
{
    __builtin_memset(to, 0, 10);
    to[10] = to[11] = 0xff;
    __builtin_memcpy(to + 12, four, 4);
}

// Read the IP and transport headers at `at` into `v`.
INLINE void read_view(struct __sk_buff *skb, u32 at, struct view *v)
{
    u8 h[40], next;
    __builtin_memset(v, 0, sizeof(*v));
    if (load(skb, at, h, 20))
        return;
    if (h[0] >> 4 == 4) {
        u16 offset = (h[6] << 8 | h[7]);
        mapped(v->src, h + 12);
        mapped(v->dst, h + 16);
        v->ip_id = h[4] << 8 | h[5];
        v->fragment = offset & 0x1fff ? 2 : offset & 0x2000 ? 1 : 0;
        v->l4 = at + (h[0] & 15) * 4;
        v->end = at + (h[2] << 8 | h[3]);
        next = h[9];
    } else if (h[0] >> 4 == 6 && !load(skb, at, h, 40)) {
        __builtin_memcpy(v->src, h + 8, 16);
        __builtin_memcpy(v->dst, h + 24, 16);
        v->l4 = at + 40;
        v->end = at + 40 + (h[4] << 8 | h[5]);
        next = h[6];
#pragma unroll
        for (int i = 0; i < 3; i++) {  // extension headers (RFC 8200, 4)
            u8 e[8];
            if (next != 0 && next != ROUTING && next != DSTOPTS && next != FRAGMENT && next != AH)
                break;
            if (load(skb, v->l4, e, 8))
                break;
            if (next == FRAGMENT) {
                u16 offset = e[2] << 8 | e[3];
                v->fragment = offset >> 3 ? 2 : offset & 1 ? 1 : 0;
                v->ip_id = e[6] << 8 | e[7];
            }
            v->l4 += next == FRAGMENT ? 8 : next == AH ? (e[1] + 2) * 4 : (e[1] + 1) * 8;
            next = e[0];
        }
    } else {
        return;
    }
    v->found = 1;
    v->proto = next;
    v->payload = v->l4;
    if (v->fragment == 2)
        return;
    if (next == TCP) {
        if (load(skb, v->l4, h, 20))
            return;
        v->flags = h[13];
        v->seq = (u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
        v->payload = v->l4 + (h[12] >> 4) * 4;
    } else if (next == UDP || next == SCTP) {
        if (load(skb, v->l4, h, 8))
            return;
        v->payload = v->l4 + (next == UDP ? 8 : 12);
    } else if (next == ICMP || next == ICMP6) {
        if (load(skb, v->l4, h, 8))
            return;
        v->flags = h[0];
        v->payload = v->l4 + 8;
        h[0] = h[2] = h[4];  // an echo's identifier stands for both ports
        h[1] = h[3] = h[5];
        if (next == ICMP ? v->flags != 0 && v->flags != 8 : v->flags != 128 && v->flags != 129)
            return;
    } else {
        return;
    }
    v->sport = h[0] << 8 | h[1];
    v->dport = h[2] << 8 | h[3];
}

// Where the packet begins that a tunnel carries; 0 where this is none.
INLINE u32 inside(struct __sk_buff *skb, struct view *v)
{
    u8 h[8];
    if (!v->found || v->fragment == 2)
        return 0;
    if (v->proto == IPIP || v->proto == IP6IN)
        return v->l4;
    if (v->proto == GRE) {  // RFC 2784, 2890
        if (load(skb, v->l4, h, 4) || h[0] & 0x40)
            return 0;
        u32 at = v->l4 + 4 + (h[0] & 0x80 ? 4 : 0) + (h[0] & 0x20 ? 4 : 0) + (h[0] & 0x10 ? 4 : 0);
        u16 carried = h[2] << 8 | h[3];
        return carried == ETH_P_TEB ? at + 14 : carried == ETH_P_IP || carried == ETH_P_IPV6 ? at : 0;
    }
    if (v->proto != UDP)
        return 0;
    if (v->dport == 4789 || v->dport == 8472)  // VXLAN (RFC 7348), and Linux's own port
        return v->payload + 8 + 14;
    if (v->dport == 6081 && !load(skb, v->payload, h, 4))  // Geneve (RFC 8926)
        return v->payload + 8 + (h[0] & 63) * 4 + (h[2] == 0x65 && h[3] == 0x58 ? 14 : 0);
    return 0;
}

INLINE int is_error(struct view *v)
{
    return (v->proto == ICMP && (v->flags == 3 || v->flags == 11 || v->flags == 12)) || (v->proto == ICMP6 && v->flags && v->flags < 5);
}
