"""`python -m bench.memory FILE BYTES [FRAMES]`: what decoding takes beside the columns it gives, of a capture that never was a file.

FILE's frames are written into a pipe over and over, BYTES of them in all, and decoded from there: at once, or in pieces of FRAMES, each of
which is dropped before the next. Prints {"input_bytes", "column_bytes", "over_bytes"} as JSON: what was read, what the columns (of the
largest piece) take, and how far the process was above both them and where it began, at most.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

from bench.inputs import HEADER, head
from bench.timing import begin_peak, peak_bytes, resident_bytes

_WRITE = """import sys
content, left = open(sys.argv[1], "rb").read(), int(sys.argv[2])
header, frames = content[:{0}], content[{0}:]
sys.stdout.buffer.write(header)
while left > 0:
    left -= sys.stdout.buffer.write(frames)
"""


def decoded_from_a_pipe(path: Path, size: int, frames: int = sys.maxsize) -> dict[str, int]:
    """Decode `size` bytes and more, made of the frames of `path`, in tables of so many `frames`."""
    from probes.capture import read_capture, read_pieces  # noqa: PLC0415 - what is not measured is not loaded

    read_capture(io.BytesIO(head(path, 1000)), path.name, "node")  # the compiled code is loaded now, and no memory is kept
    begin_peak()
    began = resident_bytes()
    with subprocess.Popen([sys.executable, "-c", _WRITE.format(HEADER), path, str(size)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        pieces = read_pieces(writer.stdout, path.name, "node", frames)
        columns = 0
        for observations in pieces.tables:
            columns = max(columns, sum(column.nbytes for column in observations.values()))
            del observations
    read = pieces.statistics.bytes + 16 * pieces.statistics.frames + HEADER
    return {"input_bytes": read, "column_bytes": columns, "over_bytes": peak_bytes() - began - columns}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(decoded_from_a_pipe(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
