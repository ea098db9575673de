"""No kernel reads outside of its data: compiled code would not notice, so the same files are read by interpreted, watched code.

Run as a program (without numba: NUMBA_DISABLE_JIT=1), this reads every damaged file with arrays that complain about a read beyond the
window, before its beginning, or, while a frame is decoded, outside of that frame; it prints what it found. The test compares that with
what compiled code finds in the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from packets import RAW, ethernet, pcap, read, sll2
from packets_damaged import damaged_files, sample_frames
from test_capture_damage import LIES, PACKET_BODY, blocks, classic, lying, pcapng
from test_decode_layers import PACKETS, TUNNELLED

from probes.capture import Capture, observe, reader, stream
from probes.schema import Array

COUNT = 331
ALL = [packet for packet, _ in (*PACKETS.values(), *TUNNELLED.values())]
# every packet cut at every length, at the file's very end too; every length and number of a record or block that may lie, lying
CUT = [pcap([packet[:length] for length in range(len(packet))], RAW) for packet in ALL]
LYING = [lying(classic()[0], place + 8, lie, False) for place in classic()[1][::5] for lie in LIES]
LYING += [lying(pcapng()[0], place + field, lie, False) for place in pcapng()[1][::5] for field in (4, 8, 20, 24) for lie in LIES]
SHORT = [file for kind in (1, 2, 3, 4, 5, 6, 0x0A0D0D0A) for file in blocks(kind, PACKET_BODY)]
DAMAGED = damaged_files(sample_frames(ALL, [ethernet(packet) for packet in ALL], [sll2(packet) for packet in ALL]), COUNT, seed=2)
FILES = [*CUT, *LYING, *SHORT, *DAMAGED]


def digest(capture: Capture) -> str:
    """Everything that was found, in one word."""
    found = hashlib.sha256()
    for name, column in capture.observations.items():
        found.update(name.encode() + column.tobytes())
    found.update(repr((capture.points, capture.statistics, [str(problem) for problem in capture.problems])).encode())
    return found.hexdigest()[:16]


class Watched(np.ndarray[Any, Any]):
    """An array that is read from `low` to `high` only."""

    low, high = 0, sys.maxsize

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)) and not self.low <= key < min(self.high, len(self)):
            raise IndexError(f"read at {key} of {self.low} to {min(self.high, len(self))}")
        return super().__getitem__(key)


class WatchedWindow(stream.ByteWindow):
    """A window whose `data` is watched."""

    def more(self, position: int) -> bool:
        more = super().more(position)
        self.data = self.data.view(Watched)
        return more


def watched_decode(
    data: Array, frames: Array, interfaces: Array, first_frame: int, first_row: int, rows: Array, ifindexes: Array
) -> tuple[int, int, bool]:
    """`decode_frames`, frame by frame, each allowed to read its own bytes, and to write its own rows."""
    count, without, fragments = 0, 0, False
    for index in range(len(frames)):
        own = data.view(Watched)
        own.low, own.high = int(frames[index]["offset"]), int(frames[index]["offset"] + frames[index]["captured"])
        assert 0 <= own.low <= own.high <= len(data)
        here = slice(count, count + observe.VIEWS_PER_FRAME)
        room = type(rows)(*(column[here] for column in rows))
        one = frames[index : index + 1]
        found, nothing, some = decode_frames(own, one, interfaces, first_frame + index, first_row + count, room, ifindexes[here])
        count, without, fragments = count + found, without + nothing, fragments or some
    return count, without, fragments


decode_frames = observe.decode_frames


def test_kernels_read_nothing_but_their_data() -> None:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    program = [sys.executable, "-W", "ignore", __file__]  # NumPy warns where compiled integers wrap around
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [digest(read(file)) for file in FILES]


def test_watched_arrays_complain() -> None:
    watched = np.zeros(10, "u1").view(Watched)
    watched.low, watched.high = 2, 5
    for place in (-1, 1, 5, 10):
        try:
            watched[place]
        except IndexError:
            continue
        raise AssertionError(place)
    assert watched[2] == watched[4] == 0


if __name__ == "__main__":
    reader.ByteWindow = WatchedWindow  # type: ignore[misc]
    observe.decode_frames = watched_decode
    sys.stdout.write(json.dumps([digest(read(file)) for file in FILES]))
