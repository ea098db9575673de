"""Which response answers which request: by order, by a key that both carry, or by turns.

Where bytes are missing, what was in them is unknown: neither a request nor a response may then be taken for the next one.
"""

from __future__ import annotations

from collections import deque

from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Exchange, Message
from probes.dissect.words import MOST_OF_RESULT

_TIMED_OUT = "408"  # HTTP servers say so unasked (RFC 9110, 15.5.9)
LOST = "bytes of the response are missing"


def begun(protocol: str, message: Message) -> Exchange:
    """The exchange that a request begins."""
    return Exchange(
        protocol, message.key, message.operation, None, message.start, message.end, attributes=dict(message.attributes)
    )  # fmt: skip


def answered(exchange: Exchange, message: Message) -> None:
    """Add a response, or a part of one."""
    exchange.status = message.status if message.status is not None else exchange.status
    if exchange.response_start < 0:
        exchange.response_start = message.start
    exchange.response_end = max(exchange.response_end, message.end)
    values = f"{exchange.answers.get('values', '')} {message.attributes.get('values', '')}".split()
    exchange.answers |= message.attributes
    if values:
        exchange.answers["values"] = " ".join(dict.fromkeys(values[:MOST_OF_RESULT]))
    if not message.whole:
        exchange.problem = LOST


class Waiting:
    """Requests that wait for their responses, first in, first out.

    Where bytes were missing it is not known who waits. The first response of a server's turn then answers the first request of the client's
    turn before, and so on, provided that no packets are missing before either, and that this client waits for its answers: it never spoke
    again before it had them (`overlaps`), and where packets are missing, it never asked for several things at once.
    """

    def __init__(self, *, resume: bool = True, known: bool = True) -> None:
        self._items: deque[tuple[Exchange, int, int]] = deque()  # with turn and number of responses
        self._resume, self._known, self._asked = resume, known, False
        self._doubtful: set[int] = set()  # turns of which the beginning may be missing
        self.broken = False  # whether anything was missing
        self.overlaps = False
        self._orphan = self._surplus = False  # a response too many; more responses than requests
        self._again = self._together = self._several = False  # a request too early; several requests in a turn, as it seems; surely

    def push(self, exchange: Exchange, message: Message) -> None:
        """`message` asked for `exchange`."""
        self._together |= message.rank > 0
        if not self._missing(message):
            self._again |= message.rank == 0 and self._known and any(turn < message.turn for _, turn, _ in self._items)
            self._surplus |= self._orphan
        self._orphan, self._asked = False, True
        self._items.append((exchange, message.turn, message.answers))

    def _missing(self, message: Message) -> bool:
        if message.broken:
            self._doubtful.add(message.turn)
        if message.broken or message.cut:
            self.broken, self._known = True, False
        return message.broken or message.cut

    def first(self, message: Message) -> Exchange | None:
        """The exchange that response `message` belongs to, None where that is not known."""
        missing = self._missing(message)
        self.overlaps |= self._again and not missing  # where nothing is missing, the client did not wait for what comes now
        self._several |= self._together and not missing
        self._again = self._together = False
        if not self._known and self._resume and message.rank == 0 and not self._doubtful & {message.turn, message.turn - 1}:
            self._items = deque(item for item in self._items if item[1] == message.turn - 1)
            self._known = True
        if not self._known:
            return None
        if not self._items:
            if self._asked:
                self._orphan = message.status != _TIMED_OUT
            else:
                self.broken, self._known = True, False  # asked for before the capture began
            return None
        return self._items[0][0]

    def doubtful(self) -> bool:
        """Whether, after all messages, requests may have got wrong responses: then only those before the first gap are certain."""
        return self._surplus or self._orphan or (self.broken and self.overlaps) or (bool(self._doubtful) and self._several)

    def pop(self) -> None:
        """The first one has got a response."""
        exchange, turn, answers = self._items.popleft()
        if answers > 1:
            self._items.appendleft((exchange, turn, answers - 1))


def by_order(protocol: str, messages: list[Message]) -> list[Exchange]:
    """The n-th response answers the n-th request (HTTP/1.1, RFC 9112, 9.3.2; RESP).

    A response that nobody asked for is an exchange of its own, without a request.
    """
    waiting = Waiting()
    found = _ordered(protocol, messages, waiting)
    if waiting.doubtful():
        found = _ordered(protocol, messages, Waiting(resume=False, known=waiting.broken))
    return found


def _ordered(protocol: str, messages: list[Message], waiting: Waiting) -> list[Exchange]:
    found: list[Exchange] = []
    for message in messages:
        if message.kind == REQUEST:
            found.append(begun(protocol, message))
            if message.answers:
                waiting.push(found[-1], message)
        elif message.kind == RESPONSE:
            exchange = waiting.first(message)
            if exchange is not None:
                waiting.pop()
            else:
                exchange = Exchange(protocol)
                found.append(exchange)
            answered(exchange, message)
    return found


def by_key(protocol: str, messages: list[Message]) -> list[Exchange]:
    """Request and response carry the same key (HTTP/2 stream, Kafka correlation id, MongoDB requestID, DNS id).

    The same request with the same key is the same one, tried again.
    """
    found: list[Exchange] = []
    current: dict[int, Exchange] = {}
    for message in messages:
        exchange = current.get(message.key)
        if message.kind == REQUEST:
            if exchange is None or message.operation not in (None, exchange.operation):
                exchange = current[message.key] = begun(protocol, message)
                found.append(exchange)
            elif message.operation is not None:
                exchange.tries += 1
            elif message.start >= 0:
                exchange.operation = exchange.operation or message.operation
                exchange.request_end = max(exchange.request_end, message.end)
                exchange.attributes |= message.attributes
        elif message.kind == RESPONSE:
            if exchange is None:
                exchange = current[message.key] = Exchange(protocol, message.key)
                found.append(exchange)
            answered(exchange, message)
            if message.also is not None:
                current[message.also] = exchange
    return [exchange for exchange in found if exchange.operation is not None or exchange.status is not None]


def by_turns(protocol: str, messages: list[Message]) -> list[Exchange]:
    """One side speaks, then the other: all of the server's messages up to the next request answer the last one (MySQL).

    The key of a response is its number in the answer: 1 begins another one, whose request was not seen.
    """
    found: list[Exchange] = []
    open_: Exchange | None = None
    login: int | None = None
    for message in messages:
        if message.kind == REQUEST:
            open_ = begun(protocol, message)
            if login is not None and not found:
                open_.attributes["login_at"] = str(login)
            found.append(open_)
        elif message.kind == NOTICE:
            if message.forward:
                open_ = None
                login = message.start if login is None and not found and message.attributes.get("login") else login
        elif open_ is not None:
            if message.broken or (message.key == 1 and open_.response_start >= 0):
                if message.broken and not (open_.status or "").startswith("error"):
                    open_.status, open_.problem = None, LOST
                open_ = None
                continue
            failed = open_.status is not None and open_.status.startswith("error")
            status = open_.status if failed else None
            answered(open_, message)
            open_.status = status or open_.status
    return found


def turn_taking(protocol: str, messages: list[Message]) -> list[Exchange]:
    """Nothing of the protocol is an exchange (TLS without keys, a PROXY header)."""
    del protocol, messages
    return []
