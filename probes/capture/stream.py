"""A capture's bytes as a sliding window, decompressed on the way (gzip RFC 1952, Zstandard RFC 8878), whatever the file is called.

The bytes are read straight into buffers that are used again and again, a chunk at a time.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import zstandard

from probes.schema import Array, Problem

READ_BYTES = 1 << 21
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


COMPRESSIONS: tuple[tuple[tuple[bytes, ...], str, Callable[[], _Decompressor]], ...] = (
    ((b"\x1f\x8b",), "gzip", _gzip),
    # RFC 8878, 3.1: frames, and skippable frames, which pzstd writes before them
    ((b"\x28\xb5\x2f\xfd", *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))), "Zstandard", _zstd),
)


def _size(stream: BinaryIO) -> int:
    """Bytes in the file behind `stream`, 0 where that is no file."""
    try:
        return os.fstat(stream.fileno()).st_size
    except (AttributeError, OSError):
        return 0


class Buffer:
    """Memory for a window's bytes; a window that moves to another buffer leaves the bytes in this one as they are."""

    def __init__(self) -> None:
        self._bytes: Array = np.empty(2 * READ_BYTES, np.uint8)

    def room(self, size: int) -> Array:
        """At least `size` bytes; more than usual only as long as they are wanted."""
        if size > len(self._bytes) or size <= 2 * READ_BYTES < len(self._bytes):
            self._bytes = np.empty(2 * max(size, READ_BYTES), np.uint8)
        return self._bytes


class ByteWindow:
    """`data` (uint8) holds the bytes from stream position `base` on; `more` lets the front go and reads further.

    New bytes go into `buffer`, which may be exchanged at any time. A compressed stream that ends early or is damaged, or a file that cannot
    be read on, gives what came before and one line in `problems`.
    """

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self.file = file
        self.base = 0
        self.data: Array = np.empty(0, np.uint8)
        self.ended = False
        self.cut = False  # it ended because of a problem that has been reported
        self.problems: list[Problem] = []
        self.buffer = Buffer()
        self._holder = self.buffer  # what `data` is in
        self._stream = stream
        self._size = _size(stream)
        self._taken = 0  # bytes of the file,
        self._unpacked = 0  # and what came out of them
        self._start = b""
        self._start = self._read(PIECE_BYTES)
        compressed = next((each for each in COMPRESSIONS if self._start.startswith(each[0])), None)
        self._magics, self._compression, self._new = compressed or ((), "", _gzip)
        self._decompressor = self._new() if compressed else None

    def more(self, position: int) -> bool:
        """Drop what is before `position` (an index into `data`, which is void then) and append; False where the stream has `ended`."""
        rest = len(self.data) - position
        if self.ended:
            read, into = 0, self._moved(position, 0)
        elif self._decompressor is None:
            into = self._moved(position, READ_BYTES)
            read = self._read_into(into[rest : rest + READ_BYTES])
        else:
            chunk = self._unpack()
            into, read = self._moved(position, len(chunk)), len(chunk)
            into[rest : rest + read] = np.frombuffer(chunk, np.uint8)
        self.ended = not read
        self.data = into[: rest + read]
        return not self.ended

    def settle(self, position: int) -> int:
        """See that `data` is in `buffer` now; where `position` is then."""
        if self._holder is self.buffer:
            return position
        rest = len(self.data) - position
        self.data = self._moved(position, 0)[:rest]
        return 0

    def _moved(self, position: int, room: int) -> Array:
        """Memory in `buffer` that begins with what `data` has from `position` on, and has `room` beyond."""
        rest = self.data[position:]
        into = self.buffer.room(len(rest) + room)
        into[: len(rest)] = rest
        self.base += position
        self._holder = self.buffer
        return into

    @property
    def share(self) -> float:
        """How much of the file has been read, from 0 to 1; 0 where its size is not known."""
        return min(self._taken / self._size, 1.0) if self._size else 0.0

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
            if not packed and not self.cut:
                self._cut(f"{self._compression} stream ends before its end mark")
            return packed
        # several members one after the other are one file (RFC 1952, 2.2; RFC 8878, 3)
        packed = self._decompressor.unused_data
        if len(packed) < 4:
            packed += self._read(PIECE_BYTES)
        if packed.startswith(self._magics) or (packed and any(magic.startswith(packed) for magic in self._magics)):
            self._decompressor = self._new()
            return packed
        if packed.strip(b"\0") and not self.cut:  # zeros alone are a tape's padding
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
        if self.cut or size == len(into):
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
        self.cut = True
