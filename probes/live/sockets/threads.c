// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// In which order each thread reads and writes its sockets: two tracepoints that say so after every transfer (Linux 6.3), or with -D KPROBES
// the returns of the functions that do it.
//
// Both give the address of the socket's struct, which no program may follow where kernel memory is locked down. Programs of the root cgroup,
// which know a socket by address and by cookie, keep which is which: `accepted` and `sent` when they first see it, `released` until it ends.

#include <linux/ptrace.h>

#define INLINE static __attribute__((always_inline)) inline

enum { ON_ACCEPT = 5 };  // BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
enum { READ = 1, WRITE = 2 };

struct use {             // what the reader gets (USE in threads.py)
    u64 time_ns;         // CLOCK_MONOTONIC, when it was done
    u64 cookie;
    u32 thread, bytes;
    u8 way, pad[7];
};
struct counts { u64 seen, dropped; };

static u64 (*socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;  // bcc's own declaration cuts it to 32 bits

BPF_RINGBUF_OUTPUT(uses, RING_PAGES);
BPF_PERCPU_ARRAY(counts, struct counts, 1);
BPF_TABLE("lru_hash", u64, u64, cookies, 262144);  // by address

INLINE void keep(u64 address, u64 cookie)
{
    u64 *known = cookies.lookup(&address);
    if (address && (!known || *known != cookie))
        cookies.update(&address, &cookie);
}

int accepted(struct bpf_sock_ops *ctx)
{
    if (ctx->op == ON_ACCEPT)
        keep((u64)ctx->sk, socket_cookie(ctx));
    return 1;
}

int sent(struct __sk_buff *skb)
{
    keep((u64)skb->sk, socket_cookie(skb));
    return 1;
}

int released(struct bpf_sock *ctx)
{
    u64 address = (u64)ctx;
    cookies.delete(&address);
    return 1;
}

INLINE int used(u64 address, s32 bytes, u8 way)
{
    u64 *cookie = cookies.lookup(&address);
    u32 zero = 0;
    struct counts *count = counts.lookup(&zero);
    if (!cookie || bytes <= 0 || !count)
        return 0;
    struct use use = {
        .time_ns = bpf_ktime_get_ns(), .cookie = *cookie, .thread = bpf_get_current_pid_tgid(), .bytes = bytes, .way = way,
    };
    count->seen++;
    if (uses.ringbuf_output(&use, sizeof(use), BPF_RB_NO_WAKEUP))
        count->dropped++;
    return 0;
}

#ifndef KPROBES
int was_read(struct bpf_raw_tracepoint_args *ctx) { return used(ctx->args[0], ctx->args[1], READ); }
int was_written(struct bpf_raw_tracepoint_args *ctx) { return used(ctx->args[0], ctx->args[1], WRITE); }
#else
BPF_TABLE("lru_hash", u32, u64, inside, 65536);  // by thread: the address of the socket that it is about to use

int enters(struct pt_regs *ctx)
{
    u32 thread = bpf_get_current_pid_tgid();
    u64 address = PT_REGS_PARM1(ctx);
    inside.update(&thread, &address);
    return 0;
}

INLINE int leaves(struct pt_regs *ctx, u8 way)
{
    u32 thread = bpf_get_current_pid_tgid();
    u64 *known = inside.lookup(&thread);
    if (!known)
        return 0;
    u64 address = *known;
    inside.delete(&thread);  // IPv6's functions call IPv4's for mapped addresses: one transfer
    return used(address, PT_REGS_RC(ctx), way);
}

int leaves_read(struct pt_regs *ctx) { return leaves(ctx, READ); }
int leaves_write(struct pt_regs *ctx) { return leaves(ctx, WRITE); }
#endif
