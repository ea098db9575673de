// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A socket filter on an AF_PACKET socket: sees every packet of every interface of a network namespace, copies its headers and the first
// bytes of its payload into a ring buffer, and returns 0, so that the socket queues nothing. It can neither drop nor change a packet.
//
// With -D TC, the same for TC programs, which let everything pass.
//
// -D RINGS: number of ring buffers. -D CONDITIONS: what packets are chosen by (BY_NET and so on below). -D FLOWS: connections to remember.

#include <sample.h>
#include <view.h>

#define SWAP16(x) __builtin_bswap16(x)
#define MAX_CAPTURE 4096
// A length, less one, that the compiler knows nothing of: what the verifier sees bounded below N is 1 to N with the one added again. That a
// length is not 0 it does not see before Linux 6.8 (d028f87517d6, "track the not equal information for regs").
#define LESS_ONE(bytes) ({ u64 less = (u64)(bytes) - 1; asm volatile("" : "+r"(less)); less; })
#define KEEP_ALL (1ULL << 32)

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { BY_TC = 0x80 };  // packets of this interface come by the TC programs below
enum { BY_NET = 1, BY_PORT = 2, BY_ENDPOINT = 4, TRACK = 8 };

// What the reader gets, followed by the packet's bytes (see PACKET in blocks.py).
struct packet {
    u64 time_ns;         // CLOCK_MONOTONIC
    u32 ifindex;
    u32 wire_bytes;
    u16 captured_bytes;
    u8 kind;             // PACKET_HOST 0 … PACKET_OUTGOING 4
    u8 pad[5];
};

struct settings {
    u64 keep_below;      // of a connection's hash: 2^32 keeps all
    u32 seed;
    u32 payload_bytes;
};

struct counts {
    u64 seen, filtered, sampled_out, dropped, failed, submitted;
    u64 timed, timed_ns;  // of every 256th packet, how long we took
};

struct net { u32 length; u8 address[16]; };
struct endpoint { u8 address[16]; u16 port; };
struct flow { u8 one[16], other[16]; u16 one_port, other_port; u8 proto, pad[3]; };

BPF_RINGBUF_OUTPUT(template, 1);
BPF_ARRAY_OF_MAPS(rings, "template", RINGS);
BPF_ARRAY(settings, struct settings, 1);
BPF_PERCPU_HASH(counters, u32, struct counts, 8192);     // by ifindex; 0 where there is no more room
BPF_ARRAY(link_header, u8, 65536);                       // by ifindex: bytes before the network header, plus one (0: not told, Ethernet); BY_TC
BPF_LPM_TRIE(nets, struct net, u8, 4096);
BPF_HASH(ports, u16, u8, 4096);
BPF_HASH(endpoints, struct endpoint, u8, 65536);
BPF_TABLE("lru_hash", struct flow, u32, connections, FLOWS);  // a connection's hash
BPF_TABLE("lru_hash", struct flow, u8, fragments, 8192);       // whether a datagram's first fragment was kept

INLINE int in_nets(u8 *address)
{
    struct net key = {.length = 128};
    __builtin_memcpy(key.address, address, 16);
    return nets.lookup(&key) != 0;
}

INLINE int is_endpoint(u8 *address, u16 port)
{
    struct endpoint key;
    __builtin_memset(&key, 0, sizeof(key));
    __builtin_memcpy(key.address, address, 16);
    key.port = port;
    return endpoints.lookup(&key) != 0;
}

INLINE int wanted(struct view *v, u32 conditions)
{
    if (!v->found)
        return 0;
    if (conditions & BY_NET && !in_nets(v->src) && !in_nets(v->dst))
        return 0;
    if (conditions & BY_PORT && !ports.lookup(&v->sport) && !ports.lookup(&v->dport))
        return 0;
    return !(conditions & BY_ENDPOINT) || is_endpoint(v->src, v->sport) || is_endpoint(v->dst, v->dport);
}

// The same key for both directions of a flow.
INLINE void key_of(struct view *v, struct flow *key)
{
    u64 src[2], dst[2];
    __builtin_memcpy(src, v->src, 16);
    __builtin_memcpy(dst, v->dst, 16);
    int swap = src[0] != dst[0] ? src[0] < dst[0] : src[1] != dst[1] ? src[1] < dst[1] : v->sport <= v->dport;
    __builtin_memset(key, 0, sizeof(*key));
    __builtin_memcpy(key->one, swap ? v->src : v->dst, 16);
    __builtin_memcpy(key->other, swap ? v->dst : v->src, 16);
    key->one_port = swap ? v->sport : v->dport;
    key->other_port = swap ? v->dport : v->sport;
    key->proto = v->proto;
}

// Of what no NAT changes: a TCP connection's initial sequence number, a datagram's length and first bytes.
INLINE u32 hash_of(struct __sk_buff *skb, struct view *v, u32 seed)
{
    u32 words[8] = {}, h = mixed(seed, v->proto == ICMP6 ? ICMP : v->proto), i;
    if (v->proto == TCP)
        return finished(mixed(h, v->seq));
    if (v->proto == SCTP && !load(skb, v->l4 + 4, words, 4))
        return finished(mixed(h, words[0]));
    u64 bytes = v->end > v->payload ? v->end - v->payload : 0;
    if (bytes > sizeof(words))
        bytes = sizeof(words);
    u64 rest = LESS_ONE(bytes);
    if (rest < sizeof(words))
        load(skb, v->payload, words, rest + 1);
#pragma unroll
    for (i = 0; i < 8; i++)
        h = mixed(h, words[i]);
    return finished(h);
}

// Whether the connection of `v` is one to keep.
INLINE int sampled(struct __sk_buff *skb, struct view *v, struct settings *s)
{
    struct flow key;
    u32 hash, *known;
    key_of(v, &key);
    if (v->proto == TCP && (v->flags & (SYN | ACK)) == SYN) {
        hash = hash_of(skb, v, s->seed);
        connections.update(&key, &hash);
        return hash < s->keep_below;
    }
    if (v->proto == TCP && s->keep_below == KEEP_ALL)
        return 1;
    known = connections.lookup(&key);
    if (known)
        return *known < s->keep_below;
    if (v->proto == TCP)  // begun before the recording: no node could tell alike whether to keep it
        return 0;
    hash = hash_of(skb, v, s->seed);
    connections.update(&key, &hash);
    return hash < s->keep_below;
}

INLINE void datagram_key(struct view *v, struct flow *key)
{
    __builtin_memset(key, 0, sizeof(*key));
    __builtin_memcpy(key->one, v->src, 16);
    __builtin_memcpy(key->other, v->dst, 16);
    key->one_port = v->ip_id;
    key->proto = v->proto;
}

enum { KEEP, FILTERED, SAMPLED_OUT };

INLINE int verdict(struct __sk_buff *skb, struct view *outer, struct view *v, struct settings *s)
{
    struct flow datagram;
    if (!CONDITIONS)
        return KEEP;
    if (v->fragment) {
        datagram_key(v, &datagram);
        if (v->fragment == 2) {
            u8 *kept = fragments.lookup(&datagram);
            return kept && *kept ? KEEP : FILTERED;
        }
    }
    int answer = KEEP;
    u32 filters = CONDITIONS & ~TRACK;
    struct view embedded;
    __builtin_memset(&embedded, 0, sizeof(embedded));
    if (v->found && is_error(v))
        read_view(skb, v->payload, &embedded);
    if (filters && !wanted(v, filters) && !(outer != v && wanted(outer, filters)) && !(embedded.found && wanted(&embedded, filters)))
        answer = FILTERED;
    else if (CONDITIONS & TRACK && v->found)
        answer = sampled(skb, embedded.found ? &embedded : v, s) ? KEEP : SAMPLED_OUT;
    if (v->fragment == 1) {
        u8 kept = answer == KEEP;
        fragments.update(&datagram, &kept);
    }
    return answer;
}

INLINE struct counts *counts_of(u32 ifindex)
{
    struct counts none = {}, *found = counters.lookup(&ifindex);
    u32 rest = 0;
    if (found)
        return found;
    counters.insert(&ifindex, &none);
    found = counters.lookup(&ifindex);
    return found ? found : counters.lookup(&rest);
}

// Copy into a ring's record of `SIZE` bytes of packet; the VLAN tag that the kernel took out is put back (if_vlan.h).
#define COPY(SIZE)                                                                                   \
    if (bytes <= SIZE) {                                                                             \
        struct { struct packet head; u8 bytes[SIZE]; } *r = bpf_ringbuf_reserve(ring, sizeof(*r), 0); \
        if (!r) {                                                                                    \
            count->dropped++;                                                                        \
            return;                                                                                  \
        }                                                                                            \
        r->head = head;                                                                              \
        int bad;                                                                                     \
        if (tagged) {                                                                                \
            bad = bpf_skb_load_bytes(skb, 0, r->bytes, 12);                                          \
            __builtin_memcpy(r->bytes + 12, tag, 4);                                                 \
            u64 rest = LESS_ONE(bytes - 16);                                                         \
            if (rest < SIZE - 16)                                                                    \
                bad |= bpf_skb_load_bytes(skb, 12, r->bytes + 16, rest + 1);                         \
        } else {                                                                                     \
            u64 rest = LESS_ONE(bytes);                                                              \
            bad = rest < SIZE ? bpf_skb_load_bytes(skb, 0, r->bytes, rest + 1) : -1;                 \
        }                                                                                            \
        if (bad) {                                                                                   \
            count->failed++;                                                                         \
            bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                                                \
            return;                                                                                  \
        }                                                                                            \
        count->submitted++;                                                                          \
        bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);                                                     \
        return;                                                                                      \
    }

INLINE void record(struct __sk_buff *skb, u32 ifindex, struct settings *s, struct counts *count, u64 time_ns, u8 kind)
{
    struct view outer, inner, *v = &outer;
    read_view(skb, 0, &outer);
    u32 carried = inside(skb, &outer);
    if (carried) {
        read_view(skb, carried, &inner);
        if (inner.found)
            v = &inner;
    }
    int answer = v == &inner ? verdict(skb, &outer, &inner, s) : verdict(skb, &outer, &outer, s);
    if (answer != KEEP) {
        if (answer == FILTERED)
            count->filtered++;
        else
            count->sampled_out++;
        return;
    }

    u8 *told = link_header.lookup(&ifindex);
    u32 link = told && *told ? (*told & ~BY_TC) - 1 : 14;
    int tagged = skb->vlan_present && link == 14;
    u16 tag[2] = {tagged ? skb->vlan_proto : 0, SWAP16(skb->vlan_tci)};
    u32 payload = v == &inner ? inner.payload : outer.payload;
    int error = v == &inner ? is_error(&inner) : is_error(&outer);
    u32 most = s->payload_bytes;
    if (error && most < 68)  // the header that an ICMP error embeds is what it is about
        most = 68;
    u32 bytes = (v == &outer && !outer.found ? 64 + most : payload + most) + link;
    if (bytes > skb->len)
        bytes = skb->len;
    if (bytes > MAX_CAPTURE - 4)
        bytes = MAX_CAPTURE - 4;
    bytes += tagged ? 4 : 0;
    if (bytes < 17) {
        count->failed++;
        return;
    }

    u32 cpu = bpf_get_smp_processor_id() % RINGS;
    void *ring = rings.lookup(&cpu);
    if (!ring) {
        count->dropped++;
        return;
    }
    struct packet head = {
        .time_ns = time_ns, .ifindex = ifindex, .wire_bytes = skb->len + (tagged ? 4 : 0), .captured_bytes = bytes, .kind = kind,
    };
    COPY(96)
    COPY(160)
    COPY(256)
    COPY(512)
    COPY(1024)
    COPY(1536)
    COPY(4096)
    count->failed++;
}

INLINE void see(struct __sk_buff *skb, u8 kind)
{
    u64 time_ns = bpf_ktime_get_ns();
    u32 zero = 0, ifindex = skb->ifindex;
    struct settings *s = settings.lookup(&zero);
    struct counts *count = counts_of(ifindex);
    if (!s || !count)
        return;
    count->seen++;
    record(skb, ifindex, s, count, time_ns, kind);
    if ((count->seen & 255) == 0) {
        count->timed++;
        count->timed_ns += bpf_ktime_get_ns() - time_ns;
    }
}

int see_packet(struct __sk_buff *skb)
{
    u32 ifindex = skb->ifindex;
    u8 *told = link_header.lookup(&ifindex);
    if (!told || !(*told & BY_TC))
        see(skb, skb->pkt_type);
    return 0;
}

#ifdef TC
#define TCX_NEXT -1  // whoever comes next decides

int see_ingress(struct __sk_buff *skb)
{
    see(skb, 0);
    return TCX_NEXT;
}

int see_egress(struct __sk_buff *skb)
{
    see(skb, 4);
    return TCX_NEXT;
}
#endif
