"""A capture's bytes as a sliding window, decompressed on the way (gzip RFC 1952, Zstandard RFC 8878), whatever the file is called."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

import numpy as np
import zstandard

from probes.schema import Array, Problem

READ_BYTES = 4 << 20
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class _Decompressor(Protocol):
    unused_data: bytes
    eof: bool

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj()


COMPRESSIONS: tuple[tuple[bytes, str, Callable[[], _Decompressor]], ...] = ((GZIP, "gzip", _gzip), (ZSTD, "Zstandard", _zstd))


class ByteWindow:
    """`data` (uint8) holds the bytes from stream position `base` on; `more` lets the front go and reads further.

    A compressed stream that ends early or is damaged gives what could be decompressed, and one line in `problems`.
    """

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self.file = file
        self.base = 0
        self.data: Array = np.empty(0, np.uint8)
        self.problems: list[Problem] = []
        self._stream = stream
        self._pending = stream.read(READ_BYTES)
        self._compression = next((entry for entry in COMPRESSIONS if self._pending.startswith(entry[0])), None)
        self._decompressor = self._compression[2]() if self._compression else None

    def more(self, position: int) -> bool:
        """Drop what is before `position` (an index into `data`) and append another chunk; False where the stream has ended."""
        rest = self.data[position:]
        chunk = self._next()
        self.base += position
        self.data = np.concatenate([rest, np.frombuffer(chunk, np.uint8)]) if chunk else rest
        return bool(chunk)

    def _next(self) -> bytes:
        while True:
            raw, self._pending = self._pending or self._stream.read(READ_BYTES), b""
            if self._decompressor is None or self._compression is None:
                return raw
            if not raw:
                if not self._decompressor.eof:
                    self._cut(f"{self._compression[1]} stream ends before its end mark")
                return b""
            try:
                chunk = self._decompressor.decompress(raw)
            except (zlib.error, zstandard.ZstdError) as error:
                self._cut(f"{self._compression[1]} stream is damaged: {error}")
                return b""
            if self._decompressor.eof:  # several members one after the other are one file (RFC 1952, 2.2)
                self._pending = self._decompressor.unused_data
                if not self._pending.startswith(self._compression[0]):
                    self._pending = self._pending or self._stream.read(READ_BYTES)
                if self._pending:
                    self._decompressor = self._compression[2]()
            if chunk:
                return chunk

    def _cut(self, what: str) -> None:
        self.problems.append(
            Problem(self.file, what, "what came before was used; copy the file again if it should be longer", self.base + len(self.data))
        )
        self._stream, self._decompressor, self._pending = _EMPTY, None, b""


class _Empty:
    def read(self, _size: int = -1, /) -> bytes:
        return b""


_EMPTY: BinaryIO = _Empty()  # type: ignore[assignment]  # nothing but read() is ever called
