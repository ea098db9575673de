"""A `hopline` whose `record` writes files of known content at a known pace; everything else is the real one.

What a recorder does when it is asked for something particular is set by the environment: STANDIN_BYTES (of each of three segments),
STANDIN_EXIT (its exit code), STANDIN_CLOCK (nanoseconds by which this node's clock is off), STANDIN_LATE (seconds that it needs too long
to get ready).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
CLOCK_NS = int(os.environ.get("STANDIN_CLOCK", "0"))
if CLOCK_NS:
    true_ns, true_s = time.time_ns, time.time
    time.time_ns = lambda: true_ns() + CLOCK_NS
    time.time = lambda: true_s() + CLOCK_NS / 1e9


def content(node: str, number: int) -> bytes:
    """What the segment `number` of a node holds."""
    return random.Random(f"{node} {number}").randbytes(int(os.environ.get("STANDIN_BYTES", "100003")) + number)


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def record(words: list[str]) -> int:
    parser = argparse.ArgumentParser()
    for option in ("-o", "--node", "--duration", "--start-at", "--log", "--max-disk"):
        parser.add_argument(option)
    asked, rest = parser.parse_known_args(words)
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    folder = Path(asked.o)
    (folder / asked.node).mkdir(parents=True)
    (folder / f"{asked.node}.asked.json").write_text(json.dumps({"start_at": float(asked.start_at), "rest": rest}))
    stop.wait(max(float(asked.start_at) - time.time(), 0))
    time.sleep(float(os.environ.get("STANDIN_LATE", "0")))
    say(json.dumps({"event": "recording", "timestamp": datetime.fromtimestamp(time.time(), UTC).isoformat()}))
    deadline = time.monotonic() + float(asked.duration.removesuffix("s"))
    written = 0
    while not stop.is_set() and time.monotonic() < deadline:
        stop.wait(0.1)
        written += 23
        say(json.dumps({"event": "progress", "seen": written + 1, "written": written, "dropped": 1}))
    for number in range(3):
        (folder / asked.node / f"{number:06}.pcapng").write_bytes(content(asked.node, number))
    (folder / f"{asked.node}.empty.txt").touch()
    if code := int(os.environ.get("STANDIN_EXIT", "0")):
        say("nothing can be recorded here: no reason at all")
        return code
    say(json.dumps({"event": "done", "seen": written + 1, "written": written, "dropped": 1}))
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "record":
        sys.exit(record(sys.argv[2:]))
    from analysis.commands import main

    main()
