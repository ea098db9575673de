"""A capture's bytes as a sliding window, decompressed on the way (gzip RFC 1952, Zstandard RFC 8878), whatever the file is called.

The bytes are read straight into `spans` of memory, by whichever thread has time, before they are needed.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import zstandard

from probes.capture.spans import REST_BYTES, Span, Spans, plain_file
from probes.schema import Array, Problem

READ_BYTES = 1 << 21
MOST_AHEAD = 4  # spans: one for each thread
# Compressed bytes are unpacked so many at a time: a file made to unpack to thousands of times its size never fills the memory, and what
# these unpack to is all that is lost before the place where a stream is damaged.
PIECE_BYTES = 1 << 12


class _Decompressor(Protocol):
    @property
    def unused_data(self) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj()


Compression = tuple[tuple[bytes, ...], str, Callable[[], _Decompressor]]  # what its files begin with, its name, what unpacks it
COMPRESSIONS: tuple[Compression, ...] = (
    ((b"\x1f\x8b",), "gzip", _gzip),
    # RFC 8878, 3.1: frames, and skippable frames, which pzstd writes before them
    ((b"\x28\xb5\x2f\xfd", *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))), "Zstandard", _zstd),
)
PLAIN: Compression = ((), "", _gzip)


def _size(stream: BinaryIO) -> int:
    """Bytes in the file behind `stream`, 0 where that is no file."""
    try:
        return os.fstat(stream.fileno()).st_size
    except (AttributeError, OSError):
        return 0


class ByteWindow:
    """`data` (uint8) holds the bytes from stream position `base` on; `more` lets the front go and reads further.

    What `data` is in may be held, and is not used again then until it is released. `read_ahead`, `hold` and `release` may be called by any
    thread at any time, everything else by one at a time. A compressed stream that ends early or is damaged, or a file that cannot be read
    on, gives what came before and one line in `problems`.
    """

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self.file = file
        self.base = 0
        self.data: Array = np.empty(0, np.uint8)
        self.share = 0.0  # of the file that has been read, from 0 to 1; 0 where its size is not known
        self.ended = False
        self.cut = False  # it ended because of a problem that has been reported
        self.problems: list[Problem] = []
        self._size = _size(stream)
        self._spans = Spans(READ_BYTES, many=self._size > READ_BYTES)
        self._span = self._spans.empty()  # what `data` is in
        self._final = False  # no span comes after that
        self._reading = threading.Lock()  # guards what follows
        self._ahead: deque[Span] = deque()  # spans in the file's order that nobody has asked for yet
        self._last = False  # the file's end is among them
        self._broken = False
        self._stream = stream
        self._taken = 0  # bytes of the file,
        self._unpacked = 0  # and what came out of them
        plain = plain_file(stream)
        self._start = b""
        self._magics, self._compression, self._new = PLAIN
        self._start = self._read(PIECE_BYTES)
        compressed = next((each for each in COMPRESSIONS if self._start.startswith(each[0])), None)
        self._magics, self._compression, self._new = compressed or PLAIN
        self._decompressor = self._new() if compressed else None
        self._descriptor, self._position = plain if plain and not compressed else (-1, 0)

    def more(self, position: int) -> bool:
        """Drop what is before `position` (an index into `data`, which is void then) and append; False where the stream has `ended`."""
        rest = self.data[position:]
        self.base += position
        span = self._next()
        if not span:
            self.data, self.ended, self.cut = rest, True, self._broken
            return False
        begin, end = REST_BYTES - len(rest), REST_BYTES + span.size
        if begin >= 0:
            span.memory[begin:REST_BYTES] = rest
            self.data = span.memory[begin:end]
        else:
            self.data = np.concatenate([rest, span.memory[REST_BYTES:end]])
        self._spans.release(self._span)
        self._span = span
        return True

    def hold(self) -> Span:
        """Keep what `data` is in as it is until this is released."""
        return self._spans.hold(self._span)

    def release(self, span: Span) -> None:
        """Let what was held be used again."""
        self._spans.release(span)

    def read_ahead(self, most: int = MOST_AHEAD) -> None:
        """Have a span more ready for `more`, while others look at those before; but no more than so many."""
        with self._reading:
            if self._last or len(self._ahead) >= most:
                return
            span = self._filled() if self._descriptor < 0 else self._placed()
            self._ahead.append(span)
        if self._descriptor >= 0 and span.fill(self._descriptor):  # in any order, by several threads side by side
            self._last = True

    def _next(self) -> Span | None:
        """The file's next span, None at its end."""
        if self._final:
            return None
        if not self._ahead:
            self.read_ahead(1)
        span = self._ahead.popleft()
        with span.filling:
            self._final = span.size < (READ_BYTES if self._descriptor >= 0 else 1)
        if self._descriptor >= 0:
            self._taken = span.offset + span.size
        if span.error:
            self._cut(f"cannot be read on: {span.error.strerror or span.error}")
        self.share = min(self._taken / self._size, 1.0) if self._size else 0.0
        return span if span.size else None

    def _placed(self) -> Span:
        """A span to be filled with a plain file's next bytes."""
        span = self._spans.empty()
        span.filling.acquire()
        span.offset = self._position
        self._position += READ_BYTES
        return span

    def _filled(self) -> Span:
        """A span of the stream's next bytes."""
        unpacked = self._unpack() if self._decompressor else b""
        span = self._spans.empty(len(unpacked))
        span.size = len(unpacked) if self._decompressor else self._read_into(span.content)
        span.content[: len(unpacked)] = np.frombuffer(unpacked, np.uint8)
        self._last = not span.size
        return span

    def _unpack(self) -> bytes:
        """The next bytes of a compressed stream, about READ_BYTES; none at the end."""
        assert self._decompressor is not None
        unpacked: list[bytes] = []
        size = 0
        while size < READ_BYTES and (packed := self._packed()):
            try:
                unpacked.append(self._decompressor.decompress(packed))
            except (zlib.error, zstandard.ZstdError) as error:
                self._cut(f"{self._compression} stream is damaged: {error}")
                break
            size += len(unpacked[-1])
            self._unpacked += len(unpacked[-1])
        return b"".join(unpacked)

    def _packed(self) -> bytes:
        """The next bytes for the decompressor; none at the end, where the last member must be whole."""
        assert self._decompressor is not None
        if not self._decompressor.eof:
            packed = self._read(PIECE_BYTES)
            if not packed and not self._broken:
                self._cut(f"{self._compression} stream ends before its end mark")
            return packed
        # several members one after the other are one file (RFC 1952, 2.2; RFC 8878, 3)
        packed = self._decompressor.unused_data
        if len(packed) < 4:
            packed += self._read(PIECE_BYTES)
        if packed.startswith(self._magics) or (packed and any(magic.startswith(packed) for magic in self._magics)):
            self._decompressor = self._new()
            return packed
        if packed.strip(b"\0") and not self._broken:  # zeros alone are a tape's padding
            self._cut(f"what follows the {self._compression} stream is not {self._compression}")
        return b""

    def _read(self, size: int) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        into = np.empty(size, np.uint8)
        return into[: self._read_into(into)].tobytes()

    def _read_into(self, into: Array) -> int:
        """Fill `into` as far as the file has bytes; how many came, none at its end."""
        size = min(len(self._start), len(into))
        into[:size] = np.frombuffer(self._start[:size], np.uint8)
        self._start = self._start[size:]
        if self._broken or size == len(into):
            return size
        try:
            read: int = cast("Any", self._stream).readinto(into[size:])  # every binary stream has it; its type does not say so
        except OSError as error:
            self._cut(f"cannot be read on: {error.strerror or error}")
            return size
        self._taken += read
        return size + read

    def _cut(self, what: str) -> None:
        remedy = "what came before was used; copy the file again if it should be longer"
        self.problems.append(Problem(self.file, what, remedy, self._unpacked if self._magics else self._taken))
        self._broken = True
