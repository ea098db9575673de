"""`python -m bench.memory FILE BYTES`: what decoding takes beside the columns it gives, of a capture that never was a file.

FILE's frames are written into a pipe over and over, BYTES of them in all, and decoded from there. Prints {"input_bytes", "column_bytes",
"over_bytes"} as JSON: what was read, what the columns take, and how far the process was above both them and where it began, at most.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.inputs import HEADER
from bench.timing import begin_peak, peak_bytes, resident_bytes

_WRITE = """import sys
content, left = open(sys.argv[1], "rb").read(), int(sys.argv[2])
header, frames = content[:{0}], content[{0}:]
sys.stdout.buffer.write(header)
while left > 0:
    left -= sys.stdout.buffer.write(frames)
"""


def decoded_from_a_pipe(path: Path, size: int) -> dict[str, int]:
    """Decode `size` bytes and more, made of the frames of `path`."""
    from probes.capture import read_capture  # noqa: PLC0415 - what is not measured is not loaded

    with path.open("rb") as stream:
        read_capture(stream, path.name, "node")  # the compiled code is loaded now
    begin_peak()
    began = resident_bytes()
    with subprocess.Popen([sys.executable, "-c", _WRITE.format(HEADER), path, str(size)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        capture = read_capture(writer.stdout, path.name, "node")
    columns = sum(column.nbytes for column in capture.observations.values())
    read = capture.statistics.bytes + 16 * capture.statistics.frames + HEADER
    return {"input_bytes": read, "column_bytes": columns, "over_bytes": peak_bytes() - began - columns}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(decoded_from_a_pipe(Path(sys.argv[1]), int(sys.argv[2]))))
