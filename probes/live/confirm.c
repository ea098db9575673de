// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Every connection once, when conntrack confirms it: its final tuples, whether iptables, nftables or IPVS translated it.
//
// -D NETNS: inode of the network namespace whose connections are wanted. -D RING_BYTES.

#include "conntrack.h"

enum { SEEN, SUBMITTED, FAILED, STATISTICS };

// What the reader gets: CONFIRMED in confirm.py.
struct confirmed {
    u64 time_ns;         // CLOCK_MONOTONIC
    struct direction original, reply;
    u8 proto, pad[7];
};

BPF_PERCPU_ARRAY(statistics, u64, STATISTICS);
BPF_HASH(entered, u64, struct nf_conn *, 4096);  // by thread
BPF_RINGBUF_OUTPUT(events, RING_BYTES / 4096);

INLINE void count(u32 which)
{
    u64 *counter = statistics.lookup(&which);
    if (counter)
        (*counter)++;
}

// int __nf_conntrack_confirm(struct sk_buff *skb)
int on_enter(struct pt_regs *ctx)
{
    struct nf_conn *entry = entry_of((struct sk_buff *)PT_REGS_PARM1(ctx));
    u64 who = thread();
    if (entry && netns_of_entry(entry) == NETNS)
        entered.update(&who, &entry);
    return 0;
}

// An entry that lost against an equal one was not confirmed: the other one is told of by whoever confirmed that.
int on_leave(struct pt_regs *ctx)
{
    u64 who = thread();
    struct nf_conn **found = entered.lookup(&who), *entry;
    struct confirmed event = {};
    unsigned long status = 0;
    if (!found)
        return 0;
    entry = *found;
    entered.delete(&who);
    FETCH(status, entry, status);
    if (!(status & CONFIRMED))
        return 0;
    event.proto = read_direction(entry, 0, &event.original);
    if (!event.proto)
        return 0;
    read_direction(entry, 1, &event.reply);
    event.time_ns = bpf_ktime_get_ns();
    count(SEEN);
    count(events.ringbuf_output(&event, sizeof(event), BPF_RB_NO_WAKEUP) ? FAILED : SUBMITTED);
    return 0;
}
