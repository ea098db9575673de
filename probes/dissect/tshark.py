"""The one door to tshark: packets in, layers out, one pass."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
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
Asked = tuple[Mapping[str, str], Sequence[str], Sequence[str], Path | None]  # what `dissect` is told: layers, parts, decode_as, keys


class DissectionError(Exception):
    """tshark is missing or failed; the message says which and what to do."""


def find_tshark() -> str | None:
    """Path of tshark, None where it is not installed."""
    return shutil.which("tshark")


_asking = threading.Lock()
_known: list[frozenset[str]] = []  # what known_protocols gives, once it is known


def known_protocols() -> frozenset[str]:
    """Filter names of all protocols that this tshark dissects; empty where it is not installed."""
    with _asking:  # once: it takes a quarter of a second
        if not _known:
            _known.append(_protocols())
        return _known[0]


def tell_protocols(known: frozenset[str]) -> None:
    """Have nobody ask tshark for what is known of it, unless it is being asked already."""
    if _asking.acquire(blocking=False):
        try:
            _known[:] = [known]
        finally:
            _asking.release()


def ask_ahead() -> None:
    """Have tshark say meanwhile which protocols it knows. Wait for `known_protocols` before this process is forked."""
    threading.Thread(target=known_protocols, daemon=True).start()


def _protocols() -> frozenset[str]:
    program = find_tshark()
    if program is None:
        return frozenset()
    listed = subprocess.run([program, "-G", "protocols"], capture_output=True, text=True, check=False).stdout
    return frozenset(line.split("\t")[2] for line in listed.splitlines() if line.count("\t") >= 2)


def _feed(stream: IO[bytes], records: Iterable[bytes]) -> None:
    with suppress(BrokenPipeError), stream:  # tshark has ended early; how is read from its exit
        stream.write(FILE_HEADER)
        stream.writelines(records)


def command(layers: Iterable[str], decode_as: Iterable[str] = (), keys: Path | None = None, file: str = "-") -> list[str]:
    """The words that have tshark print `layers` of a pcap `file` ("-": standard input). DissectionError where it is missing."""
    program = find_tshark()
    if program is None:
        raise DissectionError(f"tshark is not installed ({REMEDY})")
    options = [word for option in (*_OPTIONS, *([f"tls.keylog_file:{keys}"] if keys else [])) for word in ("-o", option)]
    rules = [word for rule in decode_as for word in ("-d", rule)]
    known = known_protocols()
    without = [word for name in _LEFT_OUT if name in known for word in ("--disable-protocol", name)]
    return [program, "-n", "-r", file, *options, *rules, *without, "-T", "pdml", "-J", " ".join([*layers, "fake-field-wrapper"])]


class Tshark:
    """A tshark that waits for packets; what it prints of them is as in `dissect`. DissectionError where there is none."""

    def __init__(self, layers: Mapping[str, str], parts: Sequence[str], decode_as: Sequence[str], keys: Path | None) -> None:
        self.asked = (layers, parts, decode_as, keys)
        words = command(layers, decode_as, keys)
        self._settings = tempfile.TemporaryDirectory(prefix="hopline-")
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        environment, pipe = os.environ | {"WIRESHARK_CONFIG_DIR": self._settings.name}, subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=self._complaints, env=environment)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._given, self._printed = self._process.stdin, self._process.stdout
        with suppress(OSError, AttributeError):  # where the system has that, and allows everybody so much
            fcntl.fcntl(self._printed, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def layers(self, records: Iterable[bytes]) -> Iterator[Layer]:
        """What it prints of `records`, which it is given once."""
        writer = threading.Thread(target=_feed, args=(self._given, records), daemon=True)
        writer.start()
        try:
            yield from read_layers(self._printed, *self.asked[:2])
        except ValueError as error:
            raise DissectionError(f"tshark's output breaks off: {error}{_said(self._complaints)}") from None
        finally:
            self._printed.close()
            writer.join()
        if self._process.wait():
            raise DissectionError(f"tshark ended with {self._process.returncode}{_said(self._complaints)}")

    def end(self) -> None:
        """End it, if it has not ended; and nothing of it is left."""
        with self._process, self._complaints, self._settings:
            self._process.kill()


_ahead: list[Tshark] = []  # one that waits
_starting: list[threading.Thread] = []


def start_ahead(asked: Callable[[], Asked]) -> None:
    """Have one start meanwhile, which takes a quarter of a second, for what will be `asked` of it. If nobody uses it, `end_ahead` it."""

    def start() -> None:
        with suppress(DissectionError, OSError):  # which is said when one is needed
            _ahead.append(Tshark(*asked()))

    _starting.append(threading.Thread(target=start, daemon=True))
    _starting[-1].start()


def _started_ahead() -> Tshark | None:
    while _starting:
        _starting.pop().join()
    return _ahead.pop() if _ahead else None


def end_ahead() -> None:
    """End the one that was started ahead, if it still waits."""
    waiting = _started_ahead()
    if waiting is not None:
        waiting.end()


def dissect(
    records: Iterable[bytes], layers: Mapping[str, str], parts: Sequence[str], decode_as: Sequence[str] = (), keys: Path | None = None
) -> Iterator[Layer]:
    """Layers called `layers` of the pcap `records` (see `probes.dissect.feed`), in order, with fields as `read_layers` says.

    `decode_as` are tshark's `-d` rules, `keys` is a TLS key log file (NSS format). DissectionError where tshark is missing or fails.
    """
    asked, tshark = (layers, parts, decode_as, keys), _started_ahead()
    if tshark is None or tshark.asked != asked:
        if tshark is not None:
            tshark.end()
        tshark = Tshark(*asked)
    try:
        yield from tshark.layers(records)
    finally:
        tshark.end()


def _said(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = [line for line in complaints.read().decode(errors="replace").splitlines() if "Running as user" not in line]
    return f": {lines[-1]}" if lines else ""
