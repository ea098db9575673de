"""What connections said: Wireshark's dissectors over their messages, once, and the exchanges found in them.

`read_side_by_side` (or `read`, `read_exchanges` in this process) is the entrance: pieces of streams in, exchanges out. `content`
recognises a protocol by its first bytes, `framing` cuts streams into messages, `feed` makes packets of them, `tshark` is the door to the
program, `pdml` reads what it prints, `protocols` has a row per protocol, `pairing` says which response answers which request. `turns` is
for what none of them reads.
"""

from probes.dissect.content import recognise
from probes.dissect.exchanges import begin_ahead, read, read_exchanges
from probes.dissect.feed import Piece
from probes.dissect.messages import Exchange, Handshake, Reading
from probes.dissect.protocols import BY_NAME
from probes.dissect.side_by_side import read_side_by_side
from probes.dissect.tshark import DissectionError, ask_ahead, end_ahead, find_tshark
from probes.dissect.turns import turns

__all__ = [
    "BY_NAME", "DissectionError", "Exchange", "Handshake", "Piece", "Reading", "ask_ahead", "begin_ahead", "end_ahead",
    "find_tshark", "read", "read_exchanges", "read_side_by_side", "recognise", "turns",
]  # fmt: skip
