"""The one door to pyshark: frames in, what Wireshark's dissectors show of them out, field by field.

A capture of all interfaces shows one packet several times, which Wireshark takes for retransmissions and does not dissect again. So whoever
asks gives the frames of one connection at one observation point, and they are dissected by themselves: from a file that has them at their
own frame numbers, with empty records in between. Frames that Wireshark refers to ("Response in frame: 203") are then the original's, too.

pyshark is an optional dependency and is imported when it is used.
"""

from __future__ import annotations

import asyncio
import re
import struct
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from probes.dissect import find_tshark

_NANOSECOND_PCAP = 0xA1B23C4D
_MAX_SNAPLEN = 262_144
_EMPTY_RECORD = bytes(16)  # no time, no bytes captured, none on the wire
_NOT_SHOWN = ("geninfo", "frame")  # what the capture says of a frame; numbers and times in there are those of the file made here
# XML 1.0 has no control characters (2.2), and tshark lets some through
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Frames may lack what came before; offloaded checksums are wrong everywhere.
_PREFERENCES = {"tcp.check_checksum": "FALSE", "udp.check_checksum": "FALSE", "ip.check_checksum": "FALSE"}


class DeepError(Exception):
    """pyshark or tshark is missing or failed; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as captured: its number in its file (from 1), time (ns since the epoch), length on the wire (bytes) and content."""

    number: int
    time_ns: int
    wire_bytes: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """A field or a layer: Wireshark's filter name ("" where it has none), the line Wireshark shows, the plain value, what is inside.

    `hidden` are fields that Wireshark only filters by. All text is as in the packet: escape it before it reaches a terminal.
    """

    name: str
    shown: str
    value: str
    hidden: bool
    fields: tuple[Field, ...] = ()


def lacking() -> str | None:
    """What is missing for a deep look, and the remedy; None where nothing is."""
    if find_tshark() is None:
        return "tshark is not installed (apt install tshark)"
    if find_spec("pyshark") is None:
        return "pyshark is not installed (pip install 'hopline[explain]')"
    return None


def pcap(frames: Iterable[Frame], link_type: int, *, numbered: bool) -> Iterator[bytes]:
    """A capture file of `frames` (ascending), piece by piece; `numbered`: each at its own number, with empty records before it."""
    yield struct.pack("<IHHiIII", _NANOSECOND_PCAP, 2, 4, 0, 0, _MAX_SNAPLEN, link_type)
    behind = 0
    for frame in frames:
        if numbered:
            yield _EMPTY_RECORD * (frame.number - behind - 1)
            behind = frame.number
        yield struct.pack("<4I", *divmod(frame.time_ns, 1_000_000_000), len(frame.content), frame.wire_bytes) + frame.content


def dissect(
    frames: Iterable[Frame], link_type: int, wanted: Collection[int], decode_as: Mapping[str, str], keys: Path | None = None
) -> dict[int, tuple[Field, ...]]:
    """The layers of the frames whose numbers are `wanted`; the other `frames` (ascending) are what they follow on.

    `decode_as` maps a selector to a protocol ("tcp.port==8080" to "http"), `keys` is a TLS key log file (NSS format). DeepError where
    pyshark or tshark is missing or fails.
    """
    problem = lacking()
    if problem:
        raise DeepError(problem)
    with tempfile.NamedTemporaryFile(prefix="hopline-", suffix=".pcap") as file:
        file.writelines(pcap(frames, link_type, numbered=True))
        file.flush()
        with _capture(file.name, sorted(wanted), decode_as, keys) as capture:
            found = dict(capture)
    missing = sorted(set(wanted) - found.keys())
    if missing:
        raise DeepError(f"tshark did not show frame {missing[0]} (try hopline doctor)")
    return found


@contextmanager
def _capture(file: str, wanted: Sequence[int], decode_as: Mapping[str, str], keys: Path | None) -> Iterator[Any]:
    """A pyshark of `file`, which gives `(number, layers)`; whatever it started has ended afterwards."""
    import pyshark  # noqa: PLC0415 - optional, and slow to load
    from pyshark import config  # noqa: PLC0415
    from pyshark.capture.capture import TSharkCrashException  # noqa: PLC0415
    from pyshark.tshark.output_parser.tshark_xml import TsharkXmlParser  # noqa: PLC0415

    class Trees(TsharkXmlParser):  # type: ignore[misc]  # pyshark has no types
        """Keeps fields inside the fields they are parts of, where pyshark's own layers are flat."""

        def _parse_single_packet(self, packet: bytes) -> tuple[int, tuple[Field, ...]]:
            return _frame(packet)

    class Capture(pyshark.FileCapture):  # type: ignore[misc]
        def _setup_tshark_output_parser(self) -> Trees:
            return Trees()

        async def _cleanup_subprocess(self, process: asyncio.subprocess.Process) -> None:
            if self._eof_reached:
                await process.wait()  # pyshark would kill it on its way out, and asyncio then take that for a crash
                await asyncio.gather(*self._stderr_handling_tasks)
            await super()._cleanup_subprocess(process)

    config.fp_config_path = config.pyshark_config_path  # pyshark would obey a config.ini of the folder it was started in
    preferences = _PREFERENCES | ({"tls.keylog_file": str(keys)} if keys else {})
    loop = asyncio.new_event_loop()  # of its own: then pyshark leaves the process's child watcher alone, which Python 3.14 no longer has
    try:
        capture = Capture(
            file, keep_packets=False, custom_parameters=["-Y", _numbers(wanted)], decode_as=dict(decode_as), override_prefs=preferences,
            tshark_path=find_tshark(), eventloop=loop,
        )  # fmt: skip
        try:
            yield capture
            capture.close()
        except TSharkCrashException:
            raise DeepError(f"tshark failed: {capture._last_error_line} (try hopline doctor)") from None
        finally:
            with suppress(TSharkCrashException):
                capture.close()
            capture._running_processes.clear()  # or pyshark closes them once more, when this loop is gone
    except ET.ParseError as error:
        raise DeepError(f"tshark's output cannot be read: {error} (try another version of it)") from None
    finally:
        loop.close()


def _numbers(wanted: Sequence[int]) -> str:
    """A display filter for frame numbers (ascending)."""
    runs: list[list[int]] = []
    for number in wanted:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return f"frame.number in {{{', '.join(str(low) if low == high else f'{low}..{high}' for low, high in runs)}}}"


def _frame(packet: bytes) -> tuple[int, tuple[Field, ...]]:
    """`(frame number, layers)` of a `<packet>` of PDML."""
    root = ET.fromstring(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", packet.decode(errors="replace")))  # noqa: S314 - tshark's
    number = next(int(field.get("show", "0")) for field in root.iter("field") if field.get("name") == "num")
    return number, tuple(_field(layer) for layer in root.findall("proto") if layer.get("name") not in _NOT_SHOWN)


def _field(element: ET.Element) -> Field:
    name, value = element.get("name", ""), element.get("show", "")
    inside = tuple(_field(each) for each in element if each.tag in ("field", "proto"))
    if name == "fake-field-wrapper" and inside:  # PDML's layer for what belongs to none
        return inside[0]
    shown = element.get("showname") or (f"{name}: {value}" if name and value else value or name)
    return Field(name, shown, value, element.get("hide") == "yes", inside)
