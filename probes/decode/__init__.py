"""From the bytes of frames to rows of observations: link layer, network layer, transport layer, tunnels.

One compiled pass over frames (`frames.decode_frames`); a layer each in `link`, `network` and `transport`; constants in `numbers`,
where it all goes in `rows`.
What takes more than one frame is in `fragments`. A new link type is a row in `link.LINK_TYPES` and a branch beside the others there; a new
tunnel a row in `numbers.TUNNELS` and its shape in `tunnels`.
"""

from probes.decode.fragments import FragmentTies, find_fragments
from probes.decode.frames import VIEWS_PER_FRAME, decode_frames
from probes.decode.link import LINK_TYPES
from probes.decode.numbers import PAYLOAD_PREFIX, TUNNELS
from probes.decode.rows import empty_rows

__all__ = [
    "LINK_TYPES",
    "PAYLOAD_PREFIX",
    "TUNNELS",
    "VIEWS_PER_FRAME",
    "FragmentTies",
    "decode_frames",
    "empty_rows",
    "find_fragments",
]
