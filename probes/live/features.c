// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// What may a program do in this kernel? Each function needs one thing, and does nothing with it.
//
// -D RING: also a ring buffer, without which the file could not be compiled where there is none.

#include <linux/ptrace.h>

BPF_ARRAY(kept, u64, 1);
#ifdef RING
BPF_RINGBUF_OUTPUT(ring, 1);
#endif

static __attribute__((always_inline)) inline void keep(u64 value)
{
    u32 zero = 0;
    kept.update(&zero, &value);
}

int seen(struct __sk_buff *packet)
{
    keep(bpf_ktime_get_ns());
    return 0;
}

int dropped(struct bpf_raw_tracepoint_args *event)
{
    keep(event->args[1]);
    return 0;
}

int memory(struct bpf_raw_tracepoint_args *event)
{
    u64 word = 0;
    bpf_probe_read_kernel(&word, sizeof(word), (void *)event->args[0]);
    keep(word);
    return 0;
}

int entered(struct pt_regs *registers)
{
    keep(bpf_ktime_get_ns());
    return 0;
}

int asked(struct bpf_sock_addr *address)
{
    keep(address->user_ip4);
    return 1;
}

int asked_by(struct bpf_sock_addr *address)
{
    keep(bpf_get_current_pid_tgid() + bpf_get_current_cgroup_id());
    return 1;
}

int opened(struct bpf_sock_ops *socket)
{
    keep(bpf_get_socket_cookie(socket));
    return 1;
}

int sent(struct __sk_buff *packet)
{
    keep(bpf_get_socket_cookie(packet));
    return 1;
}

int sent_by(struct __sk_buff *packet)
{
    keep(bpf_get_current_pid_tgid());
    return 1;
}
