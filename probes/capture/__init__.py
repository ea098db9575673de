"""Capture files: pcap and pcapng, plain or compressed, from a path or a stream, into observations.

`read_capture` is the entrance, `read_pieces` the same for what is too large to be in memory at once. `stream` reads `spans` of a file into
a sliding window and unpacks them; `pcap`, and `pcapng` with `blocks`, find the records (compiled, no object per packet) and the way past
damage; `gather` keeps what the file says about itself: interfaces, drops, truncation, comments. `observe` has the frames decoded
(`probes.decode`) into `columns`, in the threads of `lanes`, numbers the observation `points` and notes clocks that jump. `read_payloads`
looks a second time, for the bytes of chosen frames (`Payloads`: some frames at a time).
"""

from probes.capture.columns import let_memory_go
from probes.capture.payloads import Payloads, read_payloads
from probes.capture.reader import Capture, CapturePieces, CaptureStatistics, line_up, read_capture, read_pieces

__all__ = [
    "Capture",
    "CapturePieces",
    "CaptureStatistics",
    "Payloads",
    "let_memory_go",
    "line_up",
    "read_capture",
    "read_payloads",
    "read_pieces",
]
