"""Numbered packets for what is written in segments, and what the segments in a folder hold."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from packets import START_NS

from probes.capture import Capture, read_capture
from probes.live.pcapng import packet_blocks, section_header
from probes.schema import Array

FRAME_BYTES = 96
STEP_NS = 1_000_000
SECTION = partial(section_header, application="hopline")
BLOCK_BYTES = 32 + FRAME_BYTES + 12  # with the direction


def numbered(numbers: range, interfaces: int = 1) -> Array:
    """The blocks of UDP packets that take turns on `interfaces`; their number is in source port (low) and IP identification (high)."""
    which = np.array(numbers, "i8")
    frames = np.zeros((len(which), FRAME_BYTES), "u1")
    frames[:, 12:16], frames[:, 23] = (0x08, 0x00, 0x45, 0), 17
    frames[:, 17], frames[:, 39] = FRAME_BYTES - 14, FRAME_BYTES - 34
    frames[:, 18:20] = (which >> 16).astype(">u2").view("u1").reshape(-1, 2)
    frames[:, 34:36] = which.astype(">u2").view("u1").reshape(-1, 2)
    columns = (which % interfaces).astype("u4"), START_NS + which * STEP_NS, np.full(len(which), FRAME_BYTES, "u4")
    where = np.ones(len(which), "u1"), np.arange(len(which)) * FRAME_BYTES, np.full(len(which), FRAME_BYTES, "u4")
    return packet_blocks(*columns, *where, frames.reshape(-1))


def captures(folder: Path) -> list[Capture]:
    """The segments of `folder` in order, as the reader has them."""
    found = []
    for path in sorted(folder.glob("*.pcapng")):
        with path.open("rb") as stream:
            found.append(read_capture(stream, path.name, "node"))
    return found


def numbers_in(found: list[Capture]) -> list[int]:
    """The numbers of all packets in `found`, in the order of the files."""
    return [
        number
        for capture in found
        for number in ((capture.observations["ip_id"].astype("i8") << 16) | capture.observations["sport"]).tolist()
    ]


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.pcapng"))
