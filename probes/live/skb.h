// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// What a packet in the kernel's memory says of itself. For programs that may read kernel memory (bpf_probe_read_kernel).
#pragma once
#include <vmlinux.h>

#define INLINE static __attribute__((always_inline)) inline
// A field behind a kernel pointer; 0 where it cannot be read.
#define FETCH(to, pointer, field) bpf_probe_read_kernel(&(to), sizeof(to), &(pointer)->field)

enum { IP4 = 0x0800, IP6 = 0x86dd, ICMP = 1, TCP = 6, UDP = 17, FRAGMENT = 44, ICMP6 = 58, SCTP = 132 };
#define FIRST_INUM 0xefffffe0u  // no namespace's inode is lower (include/uapi/linux/nsfs.h, include/linux/proc_ns.h)

// IPv4 mapped into IPv6; ports in the host's order, of an ICMP echo its identifier twice. `proto` 0: no IP packet could be read.
struct ends {
    u8 src[16], dst[16];
    u32 seq;             // TCP
    u16 sport, dport;
    u8 proto, tcp_flags, pad[2];
};

INLINE void mapped(u8 *to, const void *four)
{
    __builtin_memset(to, 0, 10);
    to[10] = to[11] = 0xff;
    __builtin_memcpy(to + 12, four, 4);
}

// Read the IP and transport headers at `network` in kernel memory into `e`, which is zeros.
INLINE void read_ends(const void *network, u16 protocol, struct ends *e)
{
    u8 h[40], proto, later = 0;
    const u8 *at = network;
    if (protocol == IP4) {
        if (bpf_probe_read_kernel(h, 20, at) || h[0] >> 4 != 4)
            return;
        mapped(e->src, h + 12);
        mapped(e->dst, h + 16);
        later = h[6] & 0x1f || h[7];
        proto = h[9];
        at += (h[0] & 15) * 4;
    } else if (protocol == IP6) {
        if (bpf_probe_read_kernel(h, 40, at) || h[0] >> 4 != 6)
            return;
        __builtin_memcpy(e->src, h + 8, 16);
        __builtin_memcpy(e->dst, h + 24, 16);
        proto = h[6];
        at += 40;
        if (proto == FRAGMENT && !bpf_probe_read_kernel(h, 8, at)) {
            later = h[2] || h[3] & 0xf8;
            proto = h[0];
            at += 8;
        }
    } else {
        return;
    }
    e->proto = proto;
    if (later)
        return;
    if (proto == TCP && !bpf_probe_read_kernel(h, 14, at)) {
        e->seq = (u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
        e->tcp_flags = h[13];
    } else if ((proto == UDP || proto == SCTP) && !bpf_probe_read_kernel(h, 4, at)) {
    } else if ((proto == ICMP || proto == ICMP6) && !bpf_probe_read_kernel(h, 6, at)) {
        if (proto == ICMP ? h[0] != 0 && h[0] != 8 : h[0] != 128 && h[0] != 129)
            return;
        h[0] = h[2] = h[4];
        h[1] = h[3] = h[5];
    } else {
        return;
    }
    e->sport = h[0] << 8 | h[1];
    e->dport = h[2] << 8 | h[3];
}

// The same of a socket buffer.
INLINE void read_skb(struct sk_buff *skb, struct ends *e)
{
    unsigned char *head = 0;
    u16 network = 0, protocol = 0;
    FETCH(head, skb, head);
    FETCH(network, skb, network_header);
    FETCH(protocol, skb, protocol);
    read_ends(head + network, __builtin_bswap16(protocol), e);
}

// The inode of a network namespace; 0 where `net` does not look like one.
INLINE u32 netns_of(struct net *net)
{
    u32 inum = 0;
    FETCH(inum, net, ns.inum);
    return inum < FIRST_INUM ? 0 : inum;
}
