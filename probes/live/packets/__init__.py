"""Packets of a network namespace: an eBPF socket filter (`packets.c`) that copies their heads into ring buffers, and its reader.

`Packets` is the probe; `Selection` says what is let through. May be imported from here: those, and the default size of the buffers.
"""

from probes.live.packets.probe import RING_BYTES, Packets
from probes.live.packets.selection import Selection

__all__ = ["RING_BYTES", "Packets", "Selection"]
