/* The least that anyone does with libpcap: pcap_next_ex over a file, times, addresses, ports and protocol into growing columns.
 * Prints seconds and frames. It looks into no tunnel, and at none of the other columns that hopline fills. */
#include <pcap/pcap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct columns {
    int64_t *time_ns;
    uint64_t *src_hi, *src_lo, *dst_hi, *dst_lo;
    uint16_t *sport, *dport;
    uint8_t *proto;
    size_t rows, room;
};

static void *grown(void *column, size_t bytes)
{
    column = realloc(column, bytes);
    if (!column)
        abort();
    return column;
}

static void grow(struct columns *table)
{
    size_t room = table->room = table->room ? 2 * table->room : 1 << 16;
    table->time_ns = grown(table->time_ns, room * 8);
    table->src_hi = grown(table->src_hi, room * 8);
    table->src_lo = grown(table->src_lo, room * 8);
    table->dst_hi = grown(table->dst_hi, room * 8);
    table->dst_lo = grown(table->dst_lo, room * 8);
    table->sport = grown(table->sport, room * 2);
    table->dport = grown(table->dport, room * 2);
    table->proto = grown(table->proto, room);
}

static uint16_t big16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t big32(const uint8_t *at) { return (uint32_t)big16(at) << 16 | big16(at + 2); }
static uint64_t big64(const uint8_t *at) { return (uint64_t)big32(at) << 32 | big32(at + 4); }

static void decode(struct columns *table, const struct pcap_pkthdr *header, const uint8_t *frame, int link)
{
    uint32_t size = header->caplen, at = link == DLT_EN10MB ? 14 : link == DLT_LINUX_SLL2 ? 20 : 16;
    if (size < at)
        return;
    uint16_t ethertype = big16(frame + (link == DLT_LINUX_SLL2 ? 0 : at - 2));
    for (; ethertype == 0x8100 && at + 4 <= size; at += 4)
        ethertype = big16(frame + at + 2);
    if (table->rows == table->room)
        grow(table);
    size_t row = table->rows;
    uint8_t proto;
    if (ethertype == 0x0800 && at + 20 <= size) {
        table->src_hi[row] = table->dst_hi[row] = 0;
        table->src_lo[row] = 0xffff00000000 | big32(frame + at + 12);
        table->dst_lo[row] = 0xffff00000000 | big32(frame + at + 16);
        proto = frame[at + 9];
        at += 4 * (frame[at] & 15);
    } else if (ethertype == 0x86dd && at + 40 <= size) {
        table->src_hi[row] = big64(frame + at + 8);
        table->src_lo[row] = big64(frame + at + 16);
        table->dst_hi[row] = big64(frame + at + 24);
        table->dst_lo[row] = big64(frame + at + 32);
        proto = frame[at + 6];
        at += 40;
    } else {
        return;
    }
    int has_ports = (proto == 6 || proto == 17) && at + 4 <= size;
    table->time_ns[row] = header->ts.tv_sec * INT64_C(1000000000) + header->ts.tv_usec;
    table->proto[row] = proto;
    table->sport[row] = has_ports ? big16(frame + at) : 0;
    table->dport[row] = has_ports ? big16(frame + at + 2) : 0;
    table->rows++;
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    char error[PCAP_ERRBUF_SIZE] = "";
    double began = seconds(CLOCK_MONOTONIC), worked = seconds(CLOCK_PROCESS_CPUTIME_ID);
    pcap_t *capture = argc == 2 ? pcap_open_offline_with_tstamp_precision(argv[1], PCAP_TSTAMP_PRECISION_NANO, error) : NULL;
    if (!capture) {
        fprintf(stderr, "%s\n", argc == 2 ? error : "libpcap FILE");
        return 2;
    }
    struct columns table = {0};
    struct pcap_pkthdr *header;
    const uint8_t *frame;
    size_t frames = 0;
    int link = pcap_datalink(capture);
    for (; pcap_next_ex(capture, &header, &frame) == 1; frames++)
        decode(&table, header, frame, link);
    printf("%.9f %.9f %zu\n", seconds(CLOCK_MONOTONIC) - began, seconds(CLOCK_PROCESS_CPUTIME_ID) - worked, frames);
    return 0;
}
