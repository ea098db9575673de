"""PostgreSQL frontend/backend protocol 3 (PostgreSQL manual, "Frontend/Backend Protocol")."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Exchange, Message, one
from probes.dissect.pairing import LOST, Waiting, answered, begun
from probes.dissect.pdml import Layer
from probes.dissect.words import MOST_OF_RESULT, words

LONGEST_OPERATION = 200
# What messages do to the cycle from a request to ReadyForQuery: their first letter decides.
_ASKS, _ENDS_ASKING, _LOGIN = b"QPBEDCFSdcf", b"QSF", b"\0p"
_COPIED, _INSIDE = b"dcf", b"BEDCS"  # data for COPY; what may stand inside a cycle
_UNASKED = b"ANSKRG"  # notifications, notices, settings, key, authentication; CopyInResponse asks for the client's data
_READY, _ERROR, _ROW = b"Z", b"E", b"D"


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def read(layer: Layer) -> Iterator[Message]:
    """A part of a request or an answer; `step` is the message's type."""
    head = bytes(layer.message.head) if layer.message is not None else b""
    kind, fields = head[:1], layer.fields
    if layer.forward:
        statement = one(fields, "pgsql.query")
        attributes = {"step": kind.decode("latin-1")}
        if kind in _LOGIN:
            yield Message(NOTICE, attributes=attributes | {"login": "yes"})
            return
        attributes |= {"statement": statement} if statement else {}
        if kind in b"BP" and (name := one(fields, "pgsql.statement")):
            attributes["prepared"] = name
        operation = statement.strip()[:LONGEST_OPERATION] if statement else None
        yield Message(REQUEST if kind in _ASKS else NOTICE, operation=operation, attributes=attributes)
        return
    attributes = {"step": kind.decode("latin-1")}
    status = None
    if kind == _ERROR:
        status = f"error {one(fields, 'pgsql.code') or ''}".strip()
    elif kind == _ROW:
        found = words((_bytes(value).decode("utf-8", "replace") for value in fields.get("pgsql.val.data", [])), MOST_OF_RESULT)
        attributes |= {"values": " ".join(found)} if found else {}
    yield Message(NOTICE if kind in _UNASKED else RESPONSE, status=status, attributes=attributes)


def pair(protocol: str, messages: list[Message]) -> list[Exchange]:
    """One exchange from a Query, or from Parse, Bind… to Sync, up to ReadyForQuery."""
    waiting = Waiting()
    found = _cycles(protocol, messages, waiting)
    if waiting.doubtful():
        found = _cycles(protocol, messages, Waiting(resume=False, known=waiting.broken))
    return found


class _Cycles:
    """What has been asked and answered so far."""

    def __init__(self, protocol: str, waiting: Waiting) -> None:
        self._protocol, self._waiting = protocol, waiting
        self.found: list[Exchange] = []
        self._asking: Exchange | None = None  # parts of it are still to come
        self._statements: dict[str, str] = {}  # by name, as prepared
        self._login: int | None = None

    def login(self, message: Message) -> None:
        """A startup message, a password, a question for TLS."""
        self._login = message.start if self._login is None else self._login

    def request(self, message: Message, step: bytes) -> None:
        """A part of a request."""
        if step in _COPIED:
            if self.found:
                self.found[-1].request_end = max(self.found[-1].request_end, message.end)
            return
        if self._asking is None or (message.broken and step != b"S"):
            self._begin(message, step)
        assert self._asking is not None
        _ask(self._asking, message, step, self._statements)
        if step in _ENDS_ASKING:
            self._asking = None

    def _begin(self, message: Message, step: bytes) -> None:
        exchange = begun(self._protocol, message)
        exchange.operation = "Sync" if step == b"S" else exchange.operation
        if self._login is not None and not self.found:
            exchange.attributes["login_at"] = str(self._login)
        if step in _INSIDE and (message.broken or (self._login is None and not self.found)):
            exchange.operation, exchange.request_start = None, -1  # its beginning was not seen
        self._asking = exchange
        self._waiting.push(exchange, message)
        self.found.append(exchange)

    def answer(self, message: Message, step: bytes) -> None:
        """A part of an answer."""
        if self._login is not None and not self.found:
            return  # the login's
        exchange = self._waiting.first(message)
        if exchange is None:
            return
        _answer(exchange, message)
        exchange.problem = LOST  # until it is ready
        if step == _READY:
            self._waiting.pop()
            exchange.status, exchange.problem = exchange.status or "ok", None


def _cycles(protocol: str, messages: list[Message], waiting: Waiting) -> list[Exchange]:
    cycles = _Cycles(protocol, waiting)
    for message in messages:
        step = message.attributes.get("step", "").encode("latin-1")
        if message.kind == REQUEST:
            cycles.request(message, step)
        elif message.kind == RESPONSE:
            cycles.answer(message, step)
        elif message.forward and message.attributes.get("login"):
            cycles.login(message)
    for exchange in cycles.found:
        exchange.attributes.pop("step", None)
    return cycles.found


def _ask(exchange: Exchange, message: Message, step: bytes, statements: dict[str, str]) -> None:
    name = message.attributes.get("prepared", "")
    statement = message.attributes.get("statement")
    if step == b"P" and statement:
        statements[name] = statement
    if step == b"B" and statement is None:
        statement = statements.get(name)
    if statement and exchange.operation is None:
        exchange.operation = statement.strip()[:LONGEST_OPERATION]
        exchange.attributes["statement"] = statement
    exchange.request_end = max(exchange.request_end, message.end)


def _answer(exchange: Exchange, message: Message) -> None:
    before = exchange.status
    answered(exchange, message)
    exchange.answers.pop("step", None)
    exchange.status = before or exchange.status
