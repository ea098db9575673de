"""The one door to tshark: packets in, layers out, one pass."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from probes.dissect.feed import FILE_HEADER
from probes.dissect.pdml import Layer, read_layers

REMEDY = "apt-get install tshark, or leave requests out with --l4-only"
# What bodies contain is not looked into, and what an operator set for themselves must not change results.
_LEFT_OUT = ("json", "xml", "data-text-lines", "media", "png", "image-gif", "image-jfif", "urlencoded-form", "mime_multipart", "protobuf")
_OPTIONS = (
    "ip.check_checksum:FALSE", "tcp.check_checksum:FALSE", "tcp.desegment_tcp_streams:TRUE", "tcp.calculate_timestamps:FALSE",
    "tcp.track_bytes_in_flight:FALSE", "http.decompress_body:FALSE",
)  # fmt: skip
_PIPE_BYTES = 1 << 20  # of what tshark prints: with 64 kB, it and its reader wait for one another 16 times as often


class DissectionError(Exception):
    """tshark is missing or failed; the message says which and what to do."""


def find_tshark() -> str | None:
    """Path of tshark, None where it is not installed."""
    return shutil.which("tshark")


_asking = threading.Lock()


def known_protocols() -> frozenset[str]:
    """Filter names of all protocols that this tshark dissects; empty where it is not installed."""
    with _asking:  # once: it takes a quarter of a second
        return _known_protocols()


def ask_ahead() -> None:
    """Have tshark say meanwhile which protocols it knows. Wait for `known_protocols` before this process is forked."""
    threading.Thread(target=known_protocols, daemon=True).start()


@cache
def _known_protocols() -> frozenset[str]:
    program = find_tshark()
    if program is None:
        return frozenset()
    listed = subprocess.run([program, "-G", "protocols"], capture_output=True, text=True, check=False).stdout
    return frozenset(line.split("\t")[2] for line in listed.splitlines() if line.count("\t") >= 2)


def _feed(stream: IO[bytes], records: Iterable[bytes]) -> None:
    with suppress(BrokenPipeError), stream:  # tshark has ended early; how is read from its exit
        stream.write(FILE_HEADER)
        stream.writelines(records)


def dissect(
    records: Iterable[bytes], layers: Mapping[str, str], parts: Sequence[str], decode_as: Sequence[str] = (), keys: Path | None = None
) -> Iterator[Layer]:
    """Layers called `layers` of the pcap `records` (see `probes.dissect.feed`), in order, with fields as `read_layers` says.

    `decode_as` are tshark's `-d` rules, `keys` is a TLS key log file (NSS format). DissectionError where tshark is missing or fails.
    """
    program = find_tshark()
    if program is None:
        raise DissectionError(f"tshark is not installed ({REMEDY})")
    options = [word for option in (*_OPTIONS, *([f"tls.keylog_file:{keys}"] if keys else [])) for word in ("-o", option)]
    rules = [word for rule in decode_as for word in ("-d", rule)]
    known = known_protocols()
    without = [word for name in _LEFT_OUT if name in known for word in ("--disable-protocol", name)]
    printed = ["-T", "pdml", "-J", " ".join(name for name in (*layers, "fake-field-wrapper"))]
    with tempfile.TemporaryDirectory(prefix="hopline-") as settings, tempfile.TemporaryFile() as complaints:
        command = [program, "-n", "-r", "-", *options, *rules, *without, *printed]
        environment = os.environ | {"WIRESHARK_CONFIG_DIR": settings}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=environment) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(OSError, AttributeError):  # where the system has that, and allows everybody so much
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            writer = threading.Thread(target=_feed, args=(process.stdin, records), daemon=True)
            writer.start()
            try:
                yield from read_layers(process.stdout, layers, parts)
            except ValueError as error:
                raise DissectionError(f"tshark's output breaks off: {error}{_said(complaints)}") from None
            finally:
                if process.poll() is None and not process.stdout.closed:
                    process.stdout.close()
                writer.join()
            if process.wait():
                raise DissectionError(f"tshark ended with {process.returncode}{_said(complaints)}")


def _said(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = [line for line in complaints.read().decode(errors="replace").splitlines() if "Running as user" not in line]
    return f": {lines[-1]}" if lines else ""
