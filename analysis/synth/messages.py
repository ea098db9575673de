"""What requests and answers say: HTTP heads of many messages at once, as rows of bytes."""

from __future__ import annotations

import numpy as np

from probes.schema import Array

HEAD_BYTES = 256  # of one row
STATUSES = {200: b"200 OK", 404: b"404 Not Found", 503: b"503 Service Unavailable"}
ITEM_DIGITS, SERVICE_DIGITS, LENGTH_DIGITS = 8, 4, 6


def digits(values: Array, width: int, base: int = 10) -> Array:
    """Each of `values` written with `width` digits, as bytes of shape (n, width)."""
    alphabet = np.frombuffer(b"0123456789abcdef", "u1")
    powers = np.array([base**place for place in range(width - 1, -1, -1)], "u8")
    return np.asarray(alphabet[values.astype("u8")[:, None] // powers % np.uint64(base)])


def _rows(count: int, *parts: bytes | Array) -> tuple[Array, int]:
    """`parts` one behind the other in `count` rows of HEAD_BYTES, and how many bytes they are."""
    heads = np.zeros((count, HEAD_BYTES), "u1")
    at = 0
    for part in parts:
        here = np.frombuffer(part, "u1") if isinstance(part, bytes) else part
        heads[:, at : at + here.shape[-1]] = here
        at += here.shape[-1]
    return heads, at


def requests(item: Array, service: Array, identifier: Array | None, *, forwarded: bool = False) -> tuple[Array, Array]:
    """`(heads, bytes of each)` of `GET /items/ITEM` to the host of each `service`; with X-Request-ID where there is an `identifier` (u8).

    `forwarded`: with what a proxy adds.
    """
    parts: list[bytes | Array] = [
        b"GET /items/", digits(item, ITEM_DIGITS), b" HTTP/1.1\r\nHost: svc-", digits(service, SERVICE_DIGITS),
        b".example.test\r\nUser-Agent: hopline-synth\r\nAccept: */*\r\n",
    ]  # fmt: skip
    if identifier is not None:
        parts += [b"X-Request-ID: ", digits(identifier, 16, 16), digits(identifier * np.uint64(0x9E3779B97F4A7C15), 16, 16), b"\r\n"]
    if forwarded:
        parts.append(b"X-Forwarded-Proto: http\r\nX-Scheme: http\r\n")
    heads, length = _rows(len(item), *parts, b"\r\n")
    return heads, np.full(len(item), length)


def responses(status: Array, body_bytes: Array) -> tuple[Array, Array]:
    """`(heads, bytes of each)` of answers with each `status` and length of the body."""
    heads, lengths = np.zeros((len(status), HEAD_BYTES), "u1"), np.zeros(len(status), "i8")
    for code, words in STATUSES.items():
        rows = np.flatnonzero(status == code)
        start = b"HTTP/1.1 " + words + b"\r\nServer: hopline-synth\r\nContent-Type: application/octet-stream\r\nContent-Length: "
        heads[rows], lengths[rows] = _rows(len(rows), start, digits(body_bytes[rows], LENGTH_DIGITS), b"\r\n\r\n")
    return heads, lengths


def opaque(count: int) -> tuple[Array, Array]:
    """No heads."""
    return np.zeros((count, HEAD_BYTES), "u1"), np.zeros(count, "i8")


def body_text(generator: np.random.Generator, length: int) -> Array:
    """Bytes that all bodies are cut from (`length`, u1)."""
    return generator.integers(97, 123, length, "u1")
