"""What recording, and reading what was recorded, needs compiled: `python -m probes.live.ready`, when hopline or a wheel of it is made.

It is compiled again where its sources changed, and kept where all machine code is (probes/code_folders.py). A recorder that finds nothing
there begins some seconds later. Where conntrack may be asked, the ledger's part is made ready as well.
"""

from __future__ import annotations

import contextlib
import io
import struct
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from probes.capture import read_capture
from probes.conntrack import read_netlink
from probes.live.bpf import BpfError
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.ledger import Ledger
from probes.live.packets.blocks import PACKET, Blocks
from probes.live.packets.probe import MOST_RINGS
from probes.live.pcapng import InterfaceDescription, section_header, whole_blocks
from probes.live.rings import HEADER_BYTES, contents
from probes.live.segments import Segments

_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 64, 1)
# A packet of 34 bytes: Ethernet, and an IPv4 header that says that more of its datagram follow.
_FRAGMENT = struct.pack("<4I12x", 0, 0, 34, 34) + struct.pack(">H4H2B10x", 0x0800, 0x4500, 20, 0, 0x2000, 64, 17)


def compile_all() -> None:
    """Take one packet from ring to file, of as many rings as any node has, and read it; also as a ledger, damaged bytes, and a fragment."""
    record = np.zeros(1, PACKET)
    record["captured_bytes"] = 8
    content = record.tobytes() + bytes(8)
    span = np.frombuffer(len(content).to_bytes(4, "little") + bytes(HEADER_BYTES - 4) + content, "u1")
    contents(span)
    with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
        segments = Segments(Path(folder), partial(section_header, application="hopline"), Budget())
        number = segments.interface(InterfaceDescription("lo", 1))
        for rings in range(1, MOST_RINGS + 1):
            for _, blocks, _ in Blocks(rings, lambda _: number).of([span] * rings, 0):
                segments.write(blocks)
                whole_blocks(blocks, 0, 0)
        segments.close()
        (file,) = Path(folder).glob("*.pcapng*")
        recorded = file.read_bytes()
        for content in (recorded, recorded + b"!" * 64, _PCAP_HEADER + b"!" * 64, _PCAP_HEADER + _FRAGMENT):
            read_capture(io.BytesIO(content), file.name, "node")
        read_netlink(io.BytesIO(recorded), file.name)
        with contextlib.suppress(BpfError, OSError):  # this machine may have no conntrack, or not let us ask it
            Ledger(Segments(Path(folder), partial(section_header, application="hopline"), Budget(), prefix="ledger-"), Clock()).close()


if __name__ == "__main__":
    compile_all()
