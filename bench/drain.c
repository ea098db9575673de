// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Fills a ring buffer with events of 96 bytes, each as probes/live/packets/packets.c makes them: a head, and a packet's first bytes.
//
// -D RING_BYTES: size of the ring.

struct packet {
    u64 time_ns;         // CLOCK_MONOTONIC
    u32 ifindex;
    u32 wire_bytes;
    u16 captured_bytes;
    u8 kind;
    u8 pad[5];
};

struct event {
    struct packet head;
    u8 bytes[72];
};

BPF_RINGBUF_OUTPUT(events, RING_BYTES / 4096);
struct counts { u64 made, lost; };  // events, and those of them that the ring had no room for
BPF_ARRAY(counts, struct counts, 1);

int produce(struct __sk_buff *skb)
{
    u32 zero = 0;
    struct counts *count = counts.lookup(&zero);
    if (!count)
        return 0;
    count->made++;
    struct event *event = events.ringbuf_reserve(sizeof(*event));
    if (!event) {
        count->lost++;
        return 0;
    }
    event->head.time_ns = bpf_ktime_get_ns();
    event->head.ifindex = 1;
    event->head.wire_bytes = 1500;
    event->head.captured_bytes = sizeof(event->bytes);
    event->head.kind = 0;
    __builtin_memset(event->bytes, 0x23, sizeof(event->bytes));
    events.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 0;
}
