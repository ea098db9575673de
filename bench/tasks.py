"""What is timed. `python -m bench.tasks TASK PATH` runs one and prints {"seconds", "cpu_seconds", "count", "peak_bytes"} as JSON."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from bench import others
from bench.timing import Timing, median, timed

REPEATED = 5


def decode(path: Path) -> Timing:
    """Read a capture into columns, the compiled code loaded: the median of REPEATED runs, which are short."""
    from probes.capture import read_capture  # noqa: PLC0415 - what is not timed is not loaded

    def read() -> int:
        with path.open("rb") as stream:
            return read_capture(stream, path.name, "node").statistics.frames

    read()
    return median([timed(read) for _ in range(REPEATED)])


def decode_alone(path: Path) -> Timing:
    """`decode` with one thread."""
    from probes.capture import lanes  # noqa: PLC0415

    lanes.LANES = 1
    return decode(path)


def trace(path: Path) -> Timing:
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
    return timed(whole)


def readinto(path: Path) -> Timing:
    """The file's bytes into a buffer of the size that hopline's have, and nothing done with them."""
    from probes.capture.stream import READ_BYTES  # noqa: PLC0415

    buffer = bytearray(READ_BYTES)

    def read() -> int:
        size = 0
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                size += count
        return size

    read()
    return median([timed(read) for _ in range(REPEATED)])


TASKS: dict[str, Callable[[Path], Timing]] = {
    "decode": decode, "decode-alone": decode_alone, "trace": trace, "readinto": readinto,
    "tshark": others.tshark, "pyshark": others.pyshark, "dpkt": others.dpkt, "scapy": others.scapy, "tcptrace": others.tcptrace,
    "libpcap": others.libpcap,
}  # fmt: skip
IN_CHILDREN = ("tshark", "pyshark", "tcptrace", "libpcap")


def main() -> None:
    """Run one task in this process."""
    name, path = sys.argv[1:]
    found = TASKS[name](Path(path))
    who = resource.RUSAGE_CHILDREN if name in IN_CHILDREN else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss * 1024
    told = {"seconds": found.seconds, "cpu_seconds": found.cpu_seconds, "count": found.count, "peak_bytes": peak}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
