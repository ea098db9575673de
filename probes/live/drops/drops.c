// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Why packets die: every buffer that the kernel frees as dropped, and every TCP segment that it sends again.
//
// -D DETAILS: 1 where kernel memory may be read, so that each event has its flow; 0: counted by reason and place alone.
// -D RING_BYTES (with DETAILS).

#if DETAILS
#include "skb.h"
#endif

enum { SEEN, FILTERED, SUBMITTED, FAILED, UNCOUNTED, STATISTICS };
enum { DROP = 1, RETRANSMIT = 2 };

struct place {
    u64 location;        // who freed it: an address in the kernel's text
    u32 reason;          // enum skb_drop_reason
    u32 event;
};

BPF_PERCPU_ARRAY(statistics, u64, STATISTICS);
BPF_HASH(counts, struct place, u64, 8192);
BPF_HASH(ignored, u32, u8, 64);  // reasons that are no drops

static inline void count(u32 which)
{
    u64 *counter = statistics.lookup(&which);
    if (counter)
        (*counter)++;
}

static inline void count_place(struct place *place)
{
    u64 zero = 0, *found = counts.lookup_or_try_init(place, &zero);
    if (found)
        __sync_fetch_and_add(found, 1);
    else
        count(UNCOUNTED);
}

#if DETAILS
// What the reader gets: EVENT in loader.py.
struct event {
    u64 time_ns;         // CLOCK_MONOTONIC
    u64 location;
    struct ends ends;
    u32 reason;
    u32 ifindex;         // 0: not told
    u32 netns;           // inode of the namespace; 0: not told
    u8 event, pad[7];
};

BPF_RINGBUF_OUTPUT(events, RING_BYTES / 4096);

INLINE void submit(struct event *event)
{
    event->time_ns = bpf_ktime_get_ns();
    count(events.ringbuf_output(event, sizeof(*event), BPF_RB_NO_WAKEUP) ? FAILED : SUBMITTED);
}

// The device and namespace of a buffer. While a socket has it, the place of `dev` holds something else: believed only where it leads to a namespace.
INLINE void where(struct sk_buff *skb, struct event *event)
{
    struct net_device *dev = 0;
    struct net *net = 0;
    FETCH(dev, skb, dev);
    FETCH(net, dev, nd_net.net);
    event->netns = netns_of(net);
    if (event->netns)
        FETCH(event->ifindex, dev, ifindex);
}
#endif

// kernels since 5.17: trace_kfree_skb(skb, location, reason) (c504e5c2f964)
int on_kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
    struct place place = {.location = ctx->args[1], .reason = ctx->args[2], .event = DROP};
    u32 reason = place.reason;
    count(SEEN);
    if (ignored.lookup(&reason)) {
        count(FILTERED);
        return 0;
    }
    count_place(&place);
#if DETAILS
    struct sk_buff *skb = (struct sk_buff *)ctx->args[0];
    struct event event = {.location = place.location, .reason = place.reason, .event = DROP};
    read_skb(skb, &event.ends);
    where(skb, &event);
    submit(&event);
#endif
    return 0;
}

// trace_tcp_retransmit_skb(sk, skb)
int on_tcp_retransmit_skb(struct bpf_raw_tracepoint_args *ctx)
{
    struct place place = {.event = RETRANSMIT};
    count(SEEN);
    count_place(&place);
#if DETAILS
    struct sock *sk = (struct sock *)ctx->args[0];
    struct sk_buff *skb = (struct sk_buff *)ctx->args[1];
    struct event event = {.event = RETRANSMIT};
    struct net *net = 0;
    u16 family = 0;
    FETCH(family, sk, __sk_common.skc_family);
    if (family == 2) {
        u32 src = 0, dst = 0;
        FETCH(src, sk, __sk_common.skc_rcv_saddr);
        FETCH(dst, sk, __sk_common.skc_daddr);
        mapped(event.ends.src, &src);
        mapped(event.ends.dst, &dst);
    } else {
        FETCH(event.ends.src, sk, __sk_common.skc_v6_rcv_saddr);
        FETCH(event.ends.dst, sk, __sk_common.skc_v6_daddr);
    }
    event.ends.proto = TCP;
    FETCH(event.ends.sport, sk, __sk_common.skc_num);
    FETCH(event.ends.dport, sk, __sk_common.skc_dport);
    event.ends.dport = __builtin_bswap16(event.ends.dport);
    FETCH(event.ends.seq, skb, cb);  // TCP_SKB_CB(skb)->seq is its first field (include/net/tcp.h)
    FETCH(net, sk, __sk_common.skc_net.net);
    event.netns = netns_of(net);
    submit(&event);
#endif
    return 0;
}
