"""One reader of a ring that is filled at a set rate: `python -m bench.drained READER RATE SECONDS REST` prints what it came to as JSON.

A process of its own, on a processor of its own, runs an eBPF program (drain.c) over and over with BPF_PROG_TEST_RUN; nothing else is
between it and the reader but the ring. The reader takes what is there, and rests for REST seconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from probes.live.attach import SYSTEM_CALLS
from probes.live.bpf import Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.packets import RING_BYTES
from probes.live.packets.blocks import Blocks
from probes.live.pcapng import InterfaceDescription, section_header
from probes.live.rings import Ring, contents
from probes.live.segments import Segments

ETHERNET = 1
EVENT_BYTES = 96
RECORD_BYTES = EVENT_BYTES + 8
RING = RING_BYTES // 2  # as of each processor where there are two
TEST_RUN = 10  # BPF_PROG_TEST_RUN
STEP_SECONDS = 0.0005
MOST_AT_ONCE = 20_000  # events
Read = Callable[[], int]  # what there is; how many events there were


class Event(ctypes.Structure):
    """`struct event` in drain.c."""

    _fields_ = (
        ("time_ns", ctypes.c_uint64), ("ifindex", ctypes.c_uint32), ("wire_bytes", ctypes.c_uint32), ("captured_bytes", ctypes.c_uint16),
        ("kind", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 5), ("bytes", ctypes.c_uint8 * 72),
    )  # fmt: skip


@contextmanager
def to_file(program: Program) -> Iterator[Read]:
    """What `hopline record` does with packets: the ring's records to blocks, and those to segments on disk."""
    ring, clock = Ring(program.map("events").map_fd, RING), Clock()
    with tempfile.TemporaryDirectory(prefix="hopline-bench-") as folder:
        segments = Segments(Path(folder), partial(section_header, application="bench"), Budget())
        blocks = Blocks(1, lambda _ifindex: segments.interface(InterfaceDescription("lo", ETHERNET)))

        def read() -> int:
            span = ring.peek()
            count = 0
            for _, made, (taken,) in blocks.of([span], clock.offset_ns):
                ring.release(taken)
                count += segments.write(made)
            return count

        read()
        yield read
        segments.close()


@contextmanager
def in_bulk(program: Program) -> Iterator[Read]:
    """Where each event begins, in one array of them all: what a callback is told as well, one after the other."""
    ring = Ring(program.map("events").map_fd, RING)

    def read() -> int:
        span = ring.peek()
        count = len(contents(span))
        ring.release(len(span))
        return count

    read()
    yield read


@contextmanager
def by_callback(program: Program) -> Iterator[Read]:
    """BCC's own way: a Python function that is called with each event."""
    count, event_pointer = 0, ctypes.POINTER(Event)

    def take(_context: object, address: int, _size: int) -> None:
        nonlocal count
        event = ctypes.cast(address, event_pointer).contents  # noqa: F841 - what every such reader begins with
        count += 1

    program.map("events").open_ring_buffer(take)
    consume = program._bpf.ring_buffer_consume  # the door to bcc has no callbacks

    def read() -> int:
        before = count
        consume()
        return count - before

    yield read


@contextmanager
def by_callback_to_file(program: Program) -> Iterator[Read]:
    """The same, and each event is written as the block that `to_file` writes, through a buffered file."""
    count, event_pointer = 0, ctypes.POINTER(Event)
    pack, tail, clock = struct.Struct("=IIIIIII").pack, struct.pack("=HHIII", 2, 4, 1, 0, 116), Clock()
    with tempfile.TemporaryFile(prefix="hopline-bench-") as file:
        write = file.write

        def take(_context: object, address: int, _size: int) -> None:
            nonlocal count
            event = ctypes.cast(address, event_pointer).contents
            time_ns, length = event.time_ns + clock.offset_ns, event.captured_bytes
            write(pack(6, 116, 0, time_ns >> 32, time_ns & 0xFFFF_FFFF, length, event.wire_bytes))
            write(ctypes.string_at(address + 24, length) + tail)
            count += 1

        program.map("events").open_ring_buffer(take)
        consume = program._bpf.ring_buffer_consume

        def read() -> int:
            before = count
            consume()
            return count - before

        yield read


READERS = {"file": to_file, "bulk": in_bulk, "bcc": by_callback, "bcc-file": by_callback_to_file}


def test_run(function: int, frame: ctypes.Array[ctypes.c_char]) -> Callable[[int], None]:
    """Runs the loaded socket filter `function` on `frame` a number of times (struct of BPF_PROG_TEST_RUN, include/uapi/linux/bpf.h)."""
    libc, number = ctypes.CDLL(None, use_errno=True), SYSTEM_CALLS[platform.machine()]["bpf"]
    attributes = ctypes.create_string_buffer(80)
    struct.pack_into("=IIIIQQ", attributes, 0, function, 0, len(frame), 0, ctypes.addressof(frame), 0)

    def run(times: int) -> None:
        struct.pack_into("=I", attributes, 32, times)
        if libc.syscall(number, TEST_RUN, attributes, len(attributes)):
            raise OSError(ctypes.get_errno(), f"BPF_PROG_TEST_RUN: {os.strerror(ctypes.get_errno())}")

    return run


def produce(function: int, rate: float, seconds: float) -> float:
    """Make `rate` events a second for `seconds`; how long it took: longer than asked where that is too fast for this machine."""
    run = test_run(function, ctypes.create_string_buffer(128))
    total, made, began = int(rate * seconds), 0, time.monotonic()
    while made < total:
        due = min(int((time.monotonic() - began) * rate), total) - made
        if due < 1:
            time.sleep(STEP_SECONDS)
            continue
        run(min(due, MOST_AT_ONCE))
        made += min(due, MOST_AT_ONCE)
    return time.monotonic() - began


def undisturbed(processor: int) -> None:
    """Run this process on one processor, before all ordinary ones if it may: what else the machine does is not what is measured."""
    os.sched_setaffinity(0, {processor})
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@contextmanager
def producer(function: int, rate: float, seconds: float, processor: int) -> Iterator[int]:
    """`produce` in a child process on a `processor` of its own; gives the end of a pipe that says, once it is over, how long it took."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            undisturbed(processor)
            os.write(writing, struct.pack("=d", produce(function, rate, seconds)))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        os.set_blocking(reading, False)
        yield reading
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def over(pipe: int) -> float | None:
    """How long the producer took; None while it runs."""
    try:
        told = os.read(pipe, 8)
    except BlockingIOError:
        return None
    if len(told) < 8:
        raise OSError("the producer failed: may this process load and run eBPF programs?")
    return float(struct.unpack("=d", told)[0])


def drained(reader: str, rate: float, seconds: float, rest: float) -> dict[str, float]:
    """Events made, lost, read, and waiting when the producer ended, after so many s; the reader's CPU time for each that it read (ns)."""
    with Program(Path(__file__).with_name("drain.c"), {"RING_BYTES": RING}) as program, READERS[reader](program) as read:
        function = program.load("produce", "socket_filter")
        processors = os.sched_getaffinity(0)
        undisturbed(min(processors))
        with producer(function, rate, seconds, max(processors)) as pipe:
            count, began, took = 0, time.process_time(), None
            while took is None:
                count += read()
                time.sleep(rest)
                took = over(pipe)
            cpu = time.process_time() - began
        at_end = read()
        counts = program.map("counts")[ctypes.c_int(0)]
    told = {"made": counts.made, "lost": counts.lost, "read": count + at_end, "waiting": at_end, "seconds": took}
    return told | {"ns_per_event": 1e9 * cpu / max(count, 1)}


def main() -> None:
    """Run one reader in this process."""
    reader, *numbers = sys.argv[1:]
    sys.stdout.write(json.dumps(drained(reader, *map(float, numbers))))


if __name__ == "__main__":
    main()
