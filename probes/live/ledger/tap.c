// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A filter on a netlink socket that hears conntrack: each message goes into a ring buffer, with its time, instead of into the socket's queue.
// What the ring has no room for stays in the queue: only where that is full too, something is lost, and the kernel counts it.
//
// -D RING_BYTES: size of the ring.

#define KEEP 0xffffffff
#define LEAVE 0

// What the reader gets, followed by the message: EVENT in tap.py.
struct event {
    u64 time_ns;         // CLOCK_MONOTONIC
    u32 bytes;           // of the message
    u32 pad;
    u32 cooked[4];       // LINKTYPE_NETLINK's header
};

BPF_RINGBUF_OUTPUT(events, RING_BYTES / 4096);

// Fill the record `r`, which has `room` for the message.
static __attribute__((always_inline)) inline int put(struct __sk_buff *skb, u64 time_ns, u64 bytes, struct event *r, u64 room)
{
    if (!r)
        return KEEP;
    r->time_ns = time_ns;
    r->bytes = bytes;
    r->pad = 0;
    r->cooked[0] = COOKED_0;
    r->cooked[1] = r->cooked[2] = 0;
    r->cooked[3] = COOKED_3;
    u64 less = bytes - 1;  // less one, as the verifier sees only since Linux 6.8 that what is not 0 is at least 1;
    asm volatile("" : "+r"(less));  // or clang leaves out what it knows already, and the verifier does not
    if (less >= room || bpf_skb_load_bytes(skb, 0, r + 1, less + 1)) {
        bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
        return KEEP;
    }
    bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
    return LEAVE;
}

int tap(struct __sk_buff *skb)
{
    u64 time_ns = bpf_ktime_get_ns();
    u32 bytes = skb->len;
    if (bytes > 1024)
        return KEEP;
    if (bytes <= 192)
        return put(skb, time_ns, bytes, events.ringbuf_reserve(sizeof(struct event) + 192), 192);
    if (bytes <= 256)
        return put(skb, time_ns, bytes, events.ringbuf_reserve(sizeof(struct event) + 256), 256);
    return put(skb, time_ns, bytes, events.ringbuf_reserve(sizeof(struct event) + 1024), 1024);
}
