"""What is timed. `python -m bench.tasks TASK PATH` runs one and prints {"seconds", "packets", "peak_bytes"} as JSON."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPEATED = 5

# What hopline takes from a packet, as tshark calls it.
FIELDS = (
    "frame.number", "frame.time_epoch", "frame.len", "frame.cap_len", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "ip.id", "ip.ttl",
    "ip.proto", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.ack_raw", "tcp.flags", "tcp.window_size_value", "tcp.len",
    "tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr", "tcp.options.mss_val", "udp.srcport", "udp.dstport", "udp.length",
    "icmp.type", "icmp.code", "vxlan.vni",
)  # fmt: skip
# What tshark would do beyond that is turned off.
OFF = ("analyze_sequence_numbers", "desegment_tcp_streams", "relative_sequence_numbers", "calculate_timestamps")
TSHARK = ["tshark", "-n", "-T", "fields"]
TSHARK += [word for field in FIELDS for word in ("-e", field)] + [word for name in OFF for word in ("-o", f"tcp.{name}:FALSE")]


def decode(path: Path) -> tuple[float, int]:
    """Read a capture into columns, the compiled code loaded: the median of REPEATED runs, which are short."""
    from probes.capture import read_capture  # noqa: PLC0415 - what is not timed is not loaded

    def read() -> int:
        with path.open("rb") as stream:
            return read_capture(stream, path.name, "node").statistics.frames

    packets = read()
    seconds = []
    for _ in range(REPEATED):
        began = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), packets


def trace(path: Path) -> tuple[float, int]:
    """A whole bundle from files to records, the compiled code loaded."""
    from analysis.records import Recorder  # noqa: PLC0415
    from tracer.bundle import read_bundle  # noqa: PLC0415
    from tracer.trace import trace as run  # noqa: PLC0415

    def whole() -> int:
        traced = run(read_bundle([path]))
        for _ in Recorder(traced):
            pass
        return sum(each.frames for each in traced.bundle.captures.values())

    whole()
    began = time.perf_counter()
    packets = whole()
    return time.perf_counter() - began, packets


def dpkt(path: Path) -> tuple[float, int]:
    """Read the same file with dpkt: addresses, ports, sequence numbers; it does not look into tunnels."""
    import dpkt as library  # noqa: PLC0415

    layers = {1: library.ethernet.Ethernet, 113: library.sll.SLL, 276: library.sll2.SLL2}
    began = time.perf_counter()
    packets = 0
    with path.open("rb") as stream:
        reader = library.pcap.Reader(stream)
        layer = layers[reader.datalink()]
        for _, frame in reader:
            packets += 1
            ip = layer(frame).data
            if isinstance(ip, library.ip.IP | library.ip6.IP6) and isinstance(ip.data, library.tcp.TCP):
                _ = ip.src, ip.dst, ip.data.sport, ip.data.dport, ip.data.seq, ip.data.ack, ip.data.flags, ip.data.opts
    return time.perf_counter() - began, packets


def tshark(path: Path) -> tuple[float, int]:
    """Read the same file with tshark -T fields; the time that it takes to start (an empty capture) is taken off."""

    def run(source: bytes | None) -> tuple[float, int]:
        words = [*TSHARK, "-r", "-" if source is not None else str(path)]
        began = time.perf_counter()
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(source or b"")
            process.stdin.close()
            packets = sum(1 for _ in process.stdout)
        return time.perf_counter() - began, packets

    with path.open("rb") as stream:
        header = stream.read(24)
    start_up, _ = run(header)
    seconds, packets = run(None)
    return seconds - start_up, packets


TASKS: dict[str, Callable[[Path], tuple[float, int]]] = {"decode": decode, "trace": trace, "tshark": tshark, "dpkt": dpkt}


def main() -> None:
    """Run one task in this process."""
    name, path = sys.argv[1:]
    seconds, packets = TASKS[name](Path(path))
    who = resource.RUSAGE_CHILDREN if name == "tshark" else resource.RUSAGE_SELF
    sys.stdout.write(json.dumps({"seconds": seconds, "packets": packets, "peak_bytes": resource.getrusage(who).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
