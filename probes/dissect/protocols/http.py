"""HTTP/1.x (RFC 9110, 9112), HTTP/2 (RFC 9113) and gRPC on it, and what an upgrade turns a connection into."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from probes.dissect.framing import MOST_BODY_BYTES
from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Exchange, Message, one
from probes.dissect.pdml import BODY, Layer
from probes.dissect.words import words_of_body

# Headers that say something of who a request belongs to; everything else (cookies, tokens) is not kept.
KEPT = frozenset((
    "host", "x-request-id", "traceparent", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-amzn-trace-id",
    "x-cloud-trace-context", "uber-trace-id", "x-correlation-id", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
    "x-forwarded-port", "forwarded", "x-original-uri", "x-original-forwarded-for", "x-envoy-original-path", "user-agent", "content-type",
    "content-length", "content-encoding",
    "transfer-encoding", "etag", "date", "last-modified", "server", "location", "upgrade", "connection", "grpc-status",
    "grpc-message",
))  # fmt: skip
# What is read of HTTP/1.x: every header is there twice, as a line and by its own name.
FIELDS = r"http\.(?:request\.(?:method|uri|version|line)|response\.(?:code|line)|file_data)"
GRPC_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "UNAUTHENTICATED",
)  # fmt: skip


def _headers(lines: list[str]) -> dict[str, str]:
    """Those of KEPT, by lower-case name; of one that comes several times, all values (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for name, value in map(_header, lines):
        if name in KEPT:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


@lru_cache(1 << 12)
def _header(line: str) -> tuple[str, str]:
    """Name ("" if that is none) and value of a header, as tshark shows it."""
    name, colon, value = line.partition(":")
    return name.strip().lower() if colon else "", value.replace("\\r\\n", "").strip()


def _content(layer: Layer, headers: dict[str, str]) -> dict[str, str]:
    """Of a body: its digest, and a few words where it is a short text."""
    if layer.message is not None:
        passed = layer.message.body
        digest, start = (passed.digest() if passed.size and layer.message.whole else None), bytes(passed.start)
    else:
        digest, start = one(layer.fields, BODY), layer.body
    found = {"body": digest} if digest else {}
    if digest and len(start) == int(digest.partition(":")[0]) <= MOST_BODY_BYTES and "content-encoding" not in headers:
        found |= {"words": " ".join(words)} if (words := words_of_body(start, headers.get("content-type", ""))) else {}
    return found


def read(layer: Layer) -> Iterator[Message]:
    """A request or response of HTTP/1.x. An interim response (1xx but 101) is not the answer (RFC 9110, 15.2)."""
    fields = layer.fields
    method, code = one(fields, "http.request.method"), one(fields, "http.response.code")
    if method is not None:
        path = one(fields, "http.request.uri") or ""
        attributes = _headers(fields.get("http.request.line", [])) | {"method": method, "path": path}
        attributes |= {"version": version} if (version := one(fields, "http.request.version")) else {}
        yield Message(REQUEST, operation=f"{method} {path}", attributes=attributes | _content(layer, attributes))
    elif code is not None:
        attributes = _headers(fields.get("http.response.line", []))
        final = not code.startswith("1") or code == "101"
        yield Message(RESPONSE if final else NOTICE, status=code, attributes=attributes | _content(layer, attributes))


def read_http2(layer: Layer) -> Iterator[Message]:
    """The frames of HTTP/2 that belong to a stream; SETTINGS, PING, WINDOW_UPDATE and the like say nothing of a request."""
    for part in layer.groups:
        kind, stream = one(part, "http2.type"), int(one(part, "http2.streamid") or 0)
        if stream == 0 or kind not in ("0", "1", "9", "3"):  # DATA, HEADERS, CONTINUATION, RST_STREAM
            continue
        names, values = part.get("http2.header.name", []), part.get("http2.header.value", [])
        headers = dict(zip((name.lower() for name in names), values, strict=False))
        attributes = {name: value for name, value in headers.items() if name in KEPT}
        if kind == "3":
            yield Message(RESPONSE, stream, status="reset")
        elif layer.forward:
            yield _http2_request(stream, headers, attributes)
        else:
            grpc = headers.get("grpc-status")
            code = headers.get(":status")
            status = grpc_code(grpc) if grpc is not None else code
            if code is not None:
                attributes["http_status"] = code
            yield Message(RESPONSE, stream, status=status, attributes=attributes)


def _http2_request(stream: int, headers: dict[str, str], attributes: dict[str, str]) -> Message:
    method, path = headers.get(":method"), headers.get(":path")
    if method is None or path is None:
        return Message(REQUEST, stream)
    attributes |= {"method": method, "path": path, "version": "HTTP/2"}
    if ":authority" in headers:
        attributes["host"] = headers[":authority"]
    return Message(REQUEST, stream, operation=f"{method} {path}", attributes=attributes)


def finish_http2(exchanges: list[Exchange]) -> list[Exchange]:
    """Name gRPC calls as such: `Service/Method`, and the status in the trailers (gRPC over HTTP/2)."""
    for exchange in exchanges:
        kinds = (said.get("content-type", "") for said in (exchange.attributes, exchange.answers))
        if any(kind.startswith("application/grpc") for kind in kinds):
            exchange.protocol = "grpc"
            exchange.operation = exchange.attributes.get("path", "").removeprefix("/") or exchange.operation
            number = exchange.answers.get("grpc-status")
            if exchange.status != "reset":  # a response that was not seen to end has no gRPC status yet
                exchange.status = grpc_code(number) if number is not None else None
    return exchanges


def grpc_code(number: str) -> str:
    """The name of a gRPC status (gRPC, "Status codes and their use")."""
    return GRPC_CODES[int(number)] if number.isdigit() and int(number) < len(GRPC_CODES) else number


def upgraded(exchanges: list[Exchange], before: list[Exchange]) -> list[Exchange]:
    """Stream 1 of a connection that was upgraded answers the request that asked for it (RFC 7540, 3.2)."""
    asked = next((exchange for exchange in before if exchange.status == "101" and exchange.operation is not None), None)
    answer = next((exchange for exchange in exchanges if exchange.key == 1 and exchange.operation is None), None)
    if asked is not None and answer is not None:
        answer.operation, answer.request_start, answer.request_end = asked.operation, asked.request_start, asked.request_end
        answer.attributes |= asked.attributes
        before.remove(asked)
    return exchanges
