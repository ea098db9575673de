// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Whose connections are: programs of the root cgroup that only look. Each returns 1, so that everything happens as without them.
//
//   connect4, connect6, sendmsg4, sendmsg6   keep what an application asks for
//   bound4, bound6                           keep who binds a socket, which is who listens
//   opened                                   sock_ops: a TCP connection is about to be opened, with the addresses that the kernel took; listen()
//   sent                                     the first packet of every other socket: accepted, of datagrams, there before the recording
//
// -D ASKER: programs of connect() and sock_ops may ask who the current thread is; -D SENDER: programs of packets may, too.

#define INLINE static __attribute__((always_inline)) inline
#define SWAP16(x) __builtin_bswap16(x)

static u64 (*socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;  // bcc's own declaration cuts it to 32 bits

enum { TCP = 6, UDP = 17, SCTP = 132 };
enum { AF_INET = 2, AF_INET6 = 10 };
enum { ON_CONNECT = 3, ON_ACCEPT = 5, ON_LISTEN = 11 };  // BPF_SOCK_OPS_TCP_CONNECT_CB, …_PASSIVE_ESTABLISHED_CB, …_TCP_LISTEN_CB
enum { CONNECT = 1, ACCEPT = 2, LISTEN = 3, SENT = 4 };

// What the reader gets (SOCKET in loader.py). Addresses are 16 bytes, IPv4 mapped; ports in host order; what is unknown is 0.
struct socket {
    u64 time_ns;         // CLOCK_MONOTONIC
    u64 cookie;          // of the socket
    u64 netns;           // cookie of its network namespace
    u64 cgroup;          // of the socket; of the thread where that is the one that opens it
    u8 local[16], remote[16], asked[16];
    u8 wire_local[16], wire_remote[16];  // of its first packet, where that was translated on its way out of the namespace
    u16 local_port, remote_port, asked_port, wire_local_port, wire_remote_port;
    u8 kind, proto;
    u32 pad;
    u32 process, thread;
    u8 command[16];
};

struct who {
    u64 cgroup;
    u32 process, thread;
    u8 command[16];
};
struct asked {
    u8 address[16];
    u64 port;
    struct who by;
};
struct asker { u64 cookie, thread; };  // thread 0: of connect(), which holds for all that the socket sends
struct flow { u64 cookie; u8 remote[16], asked[16]; u16 remote_port, asked_port; u32 pad; };
struct counts { u64 seen, dropped; };

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_PERCPU_ARRAY(counts, struct counts, 1);
BPF_TABLE("lru_hash", struct asker, struct asked, askers, 65536);
BPF_TABLE("lru_hash", u64, u8, told, 262144);          // TCP sockets by cookie: what their first packet is awaited for, 0 nothing
BPF_TABLE("lru_hash", struct flow, u8, flows, 65536);  // what datagrams the reader has been told of

INLINE void mapped(u8 *to, u32 four)
{
    __builtin_memset(to, 0, 16);
    to[10] = to[11] = 0xff;
    __builtin_memcpy(to + 12, &four, 4);
}

INLINE int differ(const u8 *one, const u8 *other)
{
    const u64 *a = (const u64 *)one, *b = (const u64 *)other;
    return a[0] != b[0] || a[1] != b[1];
}

// Word by word, as the verifier wants contexts to be read; volatile, so that the compiler does not join two words.
INLINE void words(u8 *to, const volatile u32 *from)
{
    u32 copy[4] = {from[0], from[1], from[2], from[3]};
    __builtin_memcpy(to, copy, 16);
}

INLINE void current(struct who *who)
{
#ifdef ASKER
    u64 id = bpf_get_current_pid_tgid();
    who->process = id >> 32;
    who->thread = id;
    who->cgroup = bpf_get_current_cgroup_id();
    bpf_get_current_comm(who->command, sizeof(who->command));
#endif
}

INLINE void tell(struct socket *event)
{
    u32 zero = 0;
    struct counts *count = counts.lookup(&zero);
    event->time_ns = bpf_ktime_get_ns();
    if (!count)
        return;
    count->seen++;
    if (events.ringbuf_output(event, sizeof(*event), BPF_RB_NO_WAKEUP))
        count->dropped++;
}

INLINE void fill(struct socket *event, struct asked *asked)
{
    __builtin_memcpy(event->asked, asked->address, 16);
    event->asked_port = asked->port;
    event->process = asked->by.process;
    event->thread = asked->by.thread;
    __builtin_memcpy(event->command, asked->by.command, 16);
    if (!event->cgroup)
        event->cgroup = asked->by.cgroup;
}

INLINE int keep(struct bpf_sock_addr *ctx, int six, u32 thread)
{
    struct asker asker = {.cookie = socket_cookie(ctx), .thread = thread};
    struct asked asked, *known = thread ? askers.lookup(&asker) : 0;
    __builtin_memset(&asked, 0, sizeof(asked));
    if (six)
        words(asked.address, ctx->user_ip6);
    else
        mapped(asked.address, ctx->user_ip4);
    asked.port = SWAP16((u16)ctx->user_port);
    if (known && known->port == asked.port && !differ(known->address, asked.address))  // as with this thread's datagram before
        return 1;
    current(&asked.by);
    askers.update(&asker, &asked);
    return 1;
}

int connect4(struct bpf_sock_addr *ctx) { return keep(ctx, 0, 0); }
int connect6(struct bpf_sock_addr *ctx) { return keep(ctx, 1, 0); }

INLINE int keep_binder(struct bpf_sock *ctx)
{
    struct asker asker = {.cookie = socket_cookie(ctx)};
    struct asked nothing;
    __builtin_memset(&nothing, 0, sizeof(nothing));
    current(&nothing.by);
    askers.update(&asker, &nothing);
    return 1;
}

int bound4(struct bpf_sock *ctx) { return keep_binder(ctx); }
int bound6(struct bpf_sock *ctx) { return keep_binder(ctx); }
#ifdef SENDER
int sendmsg4(struct bpf_sock_addr *ctx) { return keep(ctx, 0, bpf_get_current_pid_tgid()); }
int sendmsg6(struct bpf_sock_addr *ctx) { return keep(ctx, 1, bpf_get_current_pid_tgid()); }
#endif

int opened(struct bpf_sock_ops *ctx)
{
    u32 op = ctx->op;
    if (op != ON_CONNECT && op != ON_ACCEPT && op != ON_LISTEN)
        return 1;
    u64 cookie = socket_cookie(ctx);
    if (op == ON_ACCEPT) {  // told with its first packet, which knows its cgroup
        u8 kind = ACCEPT;
        told.update(&cookie, &kind);
        return 1;
    }
    struct socket event;
    __builtin_memset(&event, 0, sizeof(event));
    event.kind = op == ON_CONNECT ? CONNECT : LISTEN;
    event.proto = TCP;
    event.cookie = cookie;
#ifdef SOCK_OPS_NETNS
    event.netns = bpf_get_netns_cookie(ctx);
#endif
    event.local_port = ctx->local_port;
    if (ctx->family == AF_INET6)
        words(event.local, ctx->local_ip6);
    else
        mapped(event.local, ctx->local_ip4);
    struct asker asker = {.cookie = cookie};
    struct asked *asked = askers.lookup(&asker);
    if (asked)
        fill(&event, asked);
    if (op == ON_CONNECT) {
        u32 port = ctx->remote_port;
        event.remote_port = SWAP16((u16)(port >> 16 ? port >> 16 : port));
        if (ctx->family == AF_INET6)
            words(event.remote, ctx->remote_ip6);
        else
            mapped(event.remote, ctx->remote_ip4);
    }
#ifdef SENDER
    if (!event.process) {
        struct who who;
        __builtin_memset(&who, 0, sizeof(who));
        current(&who);
        event.process = who.process;
        event.thread = who.thread;
        event.cgroup = who.cgroup;
        __builtin_memcpy(event.command, who.command, 16);
    }
#endif
    if (event.cgroup) {  // else its first packet tells more
        u8 awaited = CONNECT;
        told.update(&cookie, &awaited);
    }
    tell(&event);
    return 1;
}

INLINE void of_socket(struct __sk_buff *skb, struct bpf_sock *sk, struct socket *event)
{
    event->proto = sk->protocol;
    event->cookie = socket_cookie(skb);
    event->cgroup = bpf_skb_cgroup_id(skb);
#ifdef SENDER
    event->netns = bpf_get_netns_cookie(skb);
#endif
    event->local_port = sk->src_port;
    event->remote_port = SWAP16(sk->dst_port);
    if (sk->family == AF_INET6) {
        words(event->local, sk->src_ip6);
        words(event->remote, sk->dst_ip6);
    } else {
        mapped(event->local, sk->src_ip4);
        mapped(event->remote, sk->dst_ip4);
    }
}

struct ends { u8 local[16], remote[16]; u16 local_port, remote_port; };

// The ends as a packet has them, which is out of its namespace's NAT already (ip_finish_output).
INLINE int of_packet(struct __sk_buff *skb, u8 proto, struct ends *ends)
{
    u8 head[40], ports[4];
    u32 at = 40;
    if (bpf_skb_load_bytes(skb, 0, head, 20))
        return -1;
    if (head[0] >> 4 == 4) {
        at = (head[0] & 15) * 4;
        mapped(ends->local, 0);
        mapped(ends->remote, 0);
        __builtin_memcpy(ends->local + 12, head + 12, 4);
        __builtin_memcpy(ends->remote + 12, head + 16, 4);
    } else {
        if (bpf_skb_load_bytes(skb, 0, head, 40) || head[6] != proto)
            return -1;
        __builtin_memcpy(ends->local, head + 8, 16);
        __builtin_memcpy(ends->remote, head + 24, 16);
    }
    if (bpf_skb_load_bytes(skb, at, ports, 4))
        return -1;
    ends->local_port = ports[0] << 8 | ports[1];
    ends->remote_port = ports[2] << 8 | ports[3];
    return 0;
}

// Whether the packet is not as the socket sent it; then `event` says how it is.
INLINE int translated(struct socket *event, struct ends *ends)
{
    if (ends->local_port == event->local_port && ends->remote_port == event->remote_port && !differ(ends->local, event->local)
        && !differ(ends->remote, event->remote))
        return 0;
    __builtin_memcpy(event->wire_local, ends->local, 16);
    __builtin_memcpy(event->wire_remote, ends->remote, 16);
    event->wire_local_port = ends->local_port;
    event->wire_remote_port = ends->remote_port;
    return 1;
}

INLINE void stream(struct __sk_buff *skb, struct bpf_sock *sk)
{
    u64 cookie = socket_cookie(skb);
    u8 nothing = 0, *awaited = told.lookup(&cookie);
    if ((awaited && !*awaited) || !sk->dst_port)  // without a peer: a listener, which answers SYNs for sockets to come, or the kernel's own
        return;
    struct socket event;
    struct ends ends;
    struct asker asker = {.cookie = cookie};
    __builtin_memset(&event, 0, sizeof(event));
    event.kind = awaited && *awaited == ACCEPT ? ACCEPT : SENT;
    int opened = awaited && *awaited == CONNECT;
    of_socket(skb, sk, &event);
    told.update(&cookie, &nothing);
    int other = event.kind == SENT && !of_packet(skb, TCP, &ends) && translated(&event, &ends);
    if (opened && !other)
        return;
    struct asked *asked = askers.lookup(&asker);
    if (asked)
        fill(&event, asked);
    tell(&event);
}

INLINE struct asked *asked_of(u64 cookie)
{
    struct asker asker = {.cookie = cookie};
#ifdef SENDER
    asker.thread = (u32)bpf_get_current_pid_tgid();
    struct asked *asked = askers.lookup(&asker);
    if (asked)
        return asked;
    asker.thread = 0;
#endif
    return askers.lookup(&asker);
}

INLINE void datagram(struct __sk_buff *skb, struct bpf_sock *sk)
{
    struct ends ends;
    struct flow flow;
    u8 nothing = 0;
    __builtin_memset(&flow, 0, sizeof(flow));
    if (of_packet(skb, sk->protocol, &ends))
        return;
    flow.cookie = socket_cookie(skb);
    __builtin_memcpy(flow.remote, ends.remote, 16);
    flow.remote_port = ends.remote_port;
    struct asked *asked = asked_of(flow.cookie);
    if (asked) {
        __builtin_memcpy(flow.asked, asked->address, 16);
        flow.asked_port = asked->port;
    }
    if (flows.lookup(&flow))
        return;
    flows.update(&flow, &nothing);
    struct socket event;
    __builtin_memset(&event, 0, sizeof(event));
    event.kind = SENT;
    of_socket(skb, sk, &event);
    if (ends.local_port == event.local_port)  // which of the host's addresses it sends from; else that was masqueraded, too
        __builtin_memcpy(event.local, ends.local, 16);
    if (!event.remote_port) {  // without a peer only the packet tells
        event.remote_port = ends.remote_port;
        __builtin_memcpy(event.remote, ends.remote, 16);
    }
    translated(&event, &ends);
    if (asked)
        fill(&event, asked);
    tell(&event);
}

int sent(struct __sk_buff *skb)
{
    struct bpf_sock *sk = skb->sk;
    if (!sk)
        return 1;
    sk = bpf_sk_fullsock(sk);
    if (!sk)
        return 1;
    if (sk->protocol == TCP)
        stream(skb, sk);
    else if (sk->protocol == UDP || sk->protocol == SCTP)
        datagram(skb, sk);
    return 1;
}
