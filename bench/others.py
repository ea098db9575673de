"""What other tools are timed at: reading the same file, for what they can be asked of it that hopline takes from a packet."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.inputs import HEADER, as_ethernet, count, head
from bench.timing import Timing, timed

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
LIBPCAP = Path(__file__).with_name("libpcap.c")
# Frames of the file's beginning that the slow ones are given: the file repeats itself, and so do they.
SOME = {"tshark": 100_000, "tcptrace": 100_000, "dpkt": 100_000, "scapy": 5000, "pyshark": 1000}


def _beginning(path: Path, tool: str, folder: str) -> tuple[Path, Path]:
    """The file's first frames and none of its frames, as files in `folder`."""
    some, none = Path(folder, "some.pcap"), Path(folder, "none.pcap")
    some.write_bytes(head(path, SOME[tool]))
    none.write_bytes(some.read_bytes()[:HEADER])
    return some, none


def dpkt(path: Path) -> Timing:
    """Addresses, ports, sequence numbers with dpkt; it does not look into tunnels."""
    import dpkt as library  # noqa: PLC0415 - what is not timed is not loaded

    layers = {1: library.ethernet.Ethernet, 113: library.sll.SLL, 276: library.sll2.SLL2}

    def run() -> int:
        packets = 0
        with some.open("rb") as stream:
            reader = library.pcap.Reader(stream)
            layer = layers[reader.datalink()]
            for _, frame in reader:
                packets += 1
                ip = layer(frame).data
                if isinstance(ip, library.ip.IP | library.ip6.IP6) and isinstance(ip.data, library.tcp.TCP):
                    _ = ip.src, ip.dst, ip.data.sport, ip.data.dport, ip.data.seq, ip.data.ack, ip.data.flags, ip.data.opts
        return packets

    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        some, _ = _beginning(path, "dpkt", folder)
        return timed(run)


def scapy(path: Path) -> Timing:
    """Addresses, ports, sequence numbers with scapy, which dissects every layer that it knows."""
    from scapy.all import IP, TCP, PcapReader  # noqa: PLC0415

    def run() -> int:
        packets = 0
        with PcapReader(str(some)) as reader:
            for packet in reader:
                packets += 1
                if IP in packet:
                    _ = packet[IP].src, packet[IP].dst
                if TCP in packet:
                    _ = packet[TCP].sport, packet[TCP].dport, packet[TCP].seq, packet[TCP].ack, packet[TCP].flags, packet[TCP].options
        return packets

    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        some, _ = _beginning(path, "scapy", folder)
        return timed(run)


def tcptrace(path: Path) -> Timing:
    """The list of connections by tcptrace. It knows no Linux cooked captures: it gets the same packets behind Ethernet headers."""

    def run() -> int:
        subprocess.run(["tcptrace", "-n", some], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        return packets  # it counts those of IP alone

    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        some, _ = _beginning(path, "tcptrace", folder)
        content = as_ethernet(some.read_bytes())
        some.write_bytes(content)
        packets = count(content)
        return timed(run)


def tshark(path: Path) -> Timing:
    """`tshark -T fields`; the time that it takes to start (an empty capture) is taken off."""

    def run(file: Path) -> int:
        with subprocess.Popen([*TSHARK, "-r", str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            return sum(1 for _ in process.stdout)

    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        some, none = _beginning(path, "tshark", folder)
        start_up = timed(lambda: run(none))
        return timed(lambda: run(some)).without(start_up)


def pyshark(path: Path) -> Timing:
    """As pyshark comes, over tshark's XML, addresses and ports of each packet; the time that it takes to start is taken off."""
    import pyshark as library  # noqa: PLC0415

    def run(file: Path) -> int:
        packets = 0
        with library.FileCapture(str(file), keep_packets=False) as capture:
            for packet in capture:
                packets += 1
                if "IP" in packet:
                    _ = packet.ip.src, packet.ip.dst
                if "TCP" in packet:
                    _ = packet.tcp.srcport, packet.tcp.dstport, packet.tcp.seq_raw
        return packets

    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        some, none = _beginning(path, "pyshark", folder)
        start_up = timed(lambda: run(none))
        return timed(lambda: run(some)).without(start_up)


def libpcap(path: Path) -> Timing:
    """A loop in C over libpcap: seconds of the loop itself, without starting the program."""
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        program = Path(folder, "loop")
        subprocess.run([compiler() or "cc", "-O3", "-march=native", "-o", program, LIBPCAP, "-lpcap"], check=True)
        told = subprocess.run([program, path], capture_output=True, text=True, check=True).stdout.split()
        return Timing(float(told[0]), float(told[1]), int(told[2]))


def compiler() -> str | None:
    """A C compiler that finds libpcap's header; None where there is none."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        return None
    asked = subprocess.run([found, "-E", "-include", "pcap/pcap.h", "-x", "c", os.devnull], capture_output=True, check=False)
    return None if asked.returncode else found
