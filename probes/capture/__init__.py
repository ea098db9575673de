"""Capture files: pcap and pcapng, plain or compressed, from a path or a stream, into observations.

`read_capture` is the one entrance. `stream` opens and decompresses, `pcap` and `pcapng` find the records (compiled, no object per packet),
`reader` has them decoded (`probes.decode`) and gathers what the file says about itself: interfaces, drops, truncation, comments.
"""

from probes.capture.reader import Capture, CaptureStatistics, read_capture

__all__ = ["Capture", "CaptureStatistics", "read_capture"]
