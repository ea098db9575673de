// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Where the first packet of a connection spends its time in NAT: entry and return of the hooks' functions, of the rules they evaluate, of IPVS.
//
// -D SKB_function, STATE_function, PACKET_function: which parameter, from 1 on, is the struct sk_buff, nf_hook_state, nft_pktinfo (0: none).
// -D TABLE_function: which one is the iptables table (xt_table). -D CHAIN_function: the nf_tables chain.
// -D NETNS: inode of the namespace whose packets are wanted. -D SEED, KEEP_BELOW: of 2^32 hashes of connections, those that are kept.
// -D RING_BYTES.

#include "conntrack.h"
#include "sample.h"

enum { SEEN, SUBMITTED, FAILED, STATISTICS };
enum { DEEPEST = 8, UNKNOWN_HOOK = 255, NAME_BYTES = 32 };

// What the reader gets: CALL in loader.py. One call of one function.
struct call {
    u64 time_ns;         // at entry, CLOCK_MONOTONIC
    u64 inside_ns;       // until the return
    struct direction original;
    u8 proto;
    u8 function;         // FUNCTIONS in loader.py
    u8 hook;             // enum nf_inet_hooks; 255: not told
    u8 depth;            // calls around it
    char table[NAME_BYTES], chain[NAME_BYTES];
    u8 chain_type;       // enum nft_chain_types
    u8 pad[7];
};

// The calls that a thread, or an interrupt on top of it, is in. Functions return in the opposite order of their entries.
struct calls {
    u32 depth;
    u32 wanted;          // bit per depth
    struct call open[DEEPEST];
};

BPF_PERCPU_ARRAY(statistics, u64, STATISTICS);
BPF_PERCPU_ARRAY(none, struct calls, 1);
BPF_TABLE("lru_hash", u64, struct calls, threads, 1024);
BPF_RINGBUF_OUTPUT(events, RING_BYTES / 4096);

INLINE void count(u32 which)
{
    u64 *counter = statistics.lookup(&which);
    if (counter)
        (*counter)++;
}

// Of TCP by the initial sequence number, so that they are the connections whose packets are kept; of others by the tuple.
INLINE u32 hash_of(struct sk_buff *skb, struct call *call)
{
    u32 h = mixed(SEED, call->proto);
    if (call->proto == TCP) {
        struct ends ends = {};
        read_skb(skb, &ends);
        return finished(mixed(h, ends.seq));
    }
    u32 *words = (u32 *)&call->original;
#pragma unroll
    for (int i = 0; i < sizeof(call->original) / 4; i++)
        h = mixed(h, words[i]);
    return finished(h);
}

// Whether this is the first packet of a connection that is wanted: its entry is not confirmed yet.
INLINE int first_packet(struct sk_buff *skb, struct call *call)
{
    struct nf_conn *entry = entry_of(skb);
    unsigned long status = CONFIRMED;
    if (!entry)
        return 0;
    FETCH(status, entry, status);
    if (status & CONFIRMED || netns_of_entry(entry) != NETNS)
        return 0;
    call->proto = read_direction(entry, 0, &call->original);
    return call->proto && hash_of(skb, call) < KEEP_BELOW;
}

#ifdef HAS_NFT
INLINE void read_nft_chain(const void *chain_pointer, struct call *call)
{
    const struct nft_chain *chain = chain_pointer;
    const struct nft_base_chain *base = chain_pointer - __builtin_offsetof(struct nft_base_chain, chain);
    const struct nft_chain_type *type = 0;
    struct nft_table *table = 0;
    const char *name = 0;
    u32 number = 0;
    FETCH(table, chain, table);
    FETCH(name, table, name);
    bpf_probe_read_kernel_str(call->table, NAME_BYTES, name);
    FETCH(name, chain, name);
    bpf_probe_read_kernel_str(call->chain, NAME_BYTES, name);
    FETCH(type, base, type);
    FETCH(number, type, type);
    call->chain_type = number;
}
#endif

INLINE int enter(u8 function, const void *skb, const void *state_pointer, const void *packet_pointer, const void *table, const void *chain)
{
    const struct nf_hook_state *state = state_pointer;
    u64 who = thread();
    u32 zero = 0, depth;
    struct calls *calls = threads.lookup(&who);
    struct call *call;
    if (!calls) {
        struct calls *empty = none.lookup(&zero);
        if (!empty)
            return 0;
        threads.update(&who, empty);
        calls = threads.lookup(&who);
        if (!calls)
            return 0;
    }
    depth = calls->depth++;
    if (depth >= DEEPEST)
        return 0;
    call = &calls->open[depth & (DEEPEST - 1)];
    calls->wanted &= ~(1u << depth);
    call->function = function;
#ifdef HAS_NFT
    if (packet_pointer) {
        const struct nft_pktinfo *packet = packet_pointer;
        FETCH(skb, packet, skb);
        FETCH(state, packet, state);
    }
#endif
    if (!first_packet((struct sk_buff *)skb, call))
        return 0;
    calls->wanted |= 1u << depth;
    call->depth = depth;
    call->hook = UNKNOWN_HOOK;
    call->table[0] = call->chain[0] = call->chain_type = 0;
    if (state)
        FETCH(call->hook, state, hook);
#ifdef HAS_XT
    if (table)
        bpf_probe_read_kernel_str(call->table, NAME_BYTES, ((const struct xt_table *)table)->name);
#endif
#ifdef HAS_NFT
    if (chain)
        read_nft_chain(chain, call);
#endif
    call->time_ns = bpf_ktime_get_ns();
    return 0;
}

INLINE int leave(u8 function)
{
    u64 now_ns = bpf_ktime_get_ns(), who = thread();
    struct calls *calls = threads.lookup(&who);
    struct call *call;
    u32 depth;
    if (!calls || !calls->depth)
        return 0;
    depth = --calls->depth;
    if (depth >= DEEPEST)
        return 0;
    call = &calls->open[depth & (DEEPEST - 1)];
    if (call->function != function) {  // a return was missed: what is open cannot be told from what is not
        calls->depth = 0;
        return 0;
    }
    if (!(calls->wanted & 1u << depth))
        return 0;
    call->inside_ns = now_ns - call->time_ns;
    count(SEEN);
    count(events.ringbuf_output(call, sizeof(*call), BPF_RB_NO_WAKEUP) ? FAILED : SUBMITTED);
    return 0;
}

#define PARAMETER(ctx, n) \
    ((const void *)(n == 1 ? PT_REGS_PARM1(ctx) : n == 2 ? PT_REGS_PARM2(ctx) : n == 3 ? PT_REGS_PARM3(ctx) : n == 4 ? PT_REGS_PARM4(ctx) : 0))
#define ENTER(name, number) int enter_##name(struct pt_regs *ctx) { \
    return enter(number, PARAMETER(ctx, SKB_##name), PARAMETER(ctx, STATE_##name), PARAMETER(ctx, PACKET_##name), \
                 PARAMETER(ctx, TABLE_##name), PARAMETER(ctx, CHAIN_##name)); }
#define LEAVE(name, number) int leave_##name(struct pt_regs *ctx) { return leave(number); }

ENTER(nf_nat_inet_fn, 0)
LEAVE(nf_nat_inet_fn, 0)
ENTER(ipt_do_table, 1)
LEAVE(ipt_do_table, 1)
ENTER(ip6t_do_table, 2)
LEAVE(ip6t_do_table, 2)
ENTER(nft_do_chain, 3)
LEAVE(nft_do_chain, 3)
ENTER(ip_vs_in_hook, 4)
LEAVE(ip_vs_in_hook, 4)
ENTER(ip_vs_in, 5)
LEAVE(ip_vs_in, 5)
ENTER(ip_vs_schedule, 6)
LEAVE(ip_vs_schedule, 6)
ENTER(ip_vs_nat_xmit, 7)
LEAVE(ip_vs_nat_xmit, 7)
ENTER(ip_vs_nat_xmit_v6, 8)
LEAVE(ip_vs_nat_xmit_v6, 8)
