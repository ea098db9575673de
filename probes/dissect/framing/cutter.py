"""Streams cut into messages: where each begins and ends, and which of its bytes a dissector should see.

A protocol's framer says how to find a message's end; it is a generator that asks for bytes and ends with its message. What it asks to skip
need not be captured, so bytes missing inside a message lose nothing but themselves. Bytes missing elsewhere lose the framing: it begins
again where the side next answers the other one with something that looks like a message, and what follows is `broken` off what came before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from probes.dissect.feed import Piece

MOST_HEAD_BYTES = 18_432  # of a message that a dissector gets: heads of HTTP, statements, first rows, whole TLS records
_FEW_BYTES = 16  # at a stream's beginning are too few to judge
MOST_LINE_BYTES = 1 << 20  # that are waited for a delimiter
MOST_BODY_BYTES = 65_536  # of a body that are looked at for words


@dataclass(frozen=True, slots=True)
class Take:
    """Give these bytes to me and to the dissector."""

    size: int


@dataclass(frozen=True, slots=True)
class Until:
    """Give all bytes up to and with this delimiter to me and to the dissector."""

    delimiter: bytes


@dataclass(frozen=True, slots=True)
class Skip:
    """Go past these bytes (None: all up to the stream's end); the dissector gets at most `keep`, and `body` says that they are content."""

    size: int | None
    keep: int = 0
    body: bool = False


Framer = Generator[Take | Until | Skip, bytes, None]


class Body:
    """Digest of a message's content as it passes, and its first bytes."""

    __slots__ = ("_digest", "size", "start", "whole")

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self.size, self.start, self.whole = 0, bytearray(), True

    def add(self, part: bytes) -> None:
        """Take the next part."""
        self._digest.update(part)
        self.size += len(part)
        self.start += part[: MOST_BODY_BYTES + 1 - len(self.start)]

    def digest(self) -> str | None:
        """`size:digest`, None where some of it is missing."""
        return f"{self.size}:{self._digest.hexdigest()}" if self.whole else None


def digest(content: bytes) -> str:
    """`size:digest` of a content that is at hand, as `Body.digest` has it."""
    body = Body()
    body.add(content)
    return body.digest() or ""


@dataclass(slots=True)
class Framed:
    """A message of one side. Places are bytes in its stream; `end` is exclusive, and where the capture lost it, the last byte seen."""

    protocol: str
    forward: bool
    start: int
    order: int  # of the piece in which it began, over both sides
    turn: int  # how often the word had changed sides by then
    rank: int  # of the messages that began in this turn
    broken: bool  # packets before it are missing: nobody knows how many messages, and of how many turns
    cut: bool  # packets before it were not captured whole: messages of earlier turns are missing
    time_ns: int = 0
    end: int = -1
    head: bytearray = field(default_factory=bytearray)
    more: bool = False  # whether there is more of it than `head`
    size: int = 0  # bytes that it has, as far as is known
    whole: bool = False  # whether its end was found
    body: Body = field(default_factory=Body)


class Side:
    """One direction of a connection while it is being cut."""

    def __init__(self, talk: Talk, *, forward: bool) -> None:
        self.talk, self.forward = talk, forward
        self.buffer = bytearray()
        self.at = 0  # place of the buffer's first byte
        self.lost = True  # nothing is known of what came before
        self.broken = self.cut = False
        self.closed = False
        self.current: Framed | None = None
        self._task: Framer | None = None
        self._ask: Take | Until | Skip | None = None
        self._left: int | None = None  # of a Skip
        self._turn, self._rank = -1, 0
        self._looked = 0  # bytes of the buffer that hold no delimiter

    def take_in(self, piece: Piece, order: int, *, begins_turn: bool) -> None:
        """Add a piece."""
        if piece.offset != self.at + len(self.buffer):
            self._gap(piece.offset, missing=True)
        if self.lost and begins_turn and piece.payload:
            small = piece.offset == 0 and len(piece.payload) < _FEW_BYTES
            self.lost = not (small or self.talk.begins(piece.payload, self))
        if self.lost:
            self.at = piece.offset + len(piece.payload)
        else:
            self.buffer += piece.payload
            self._run(order, piece.time_ns)
        if len(piece.payload) < piece.wire:
            self._gap(piece.offset + piece.wire, missing=False)
        if piece.end:
            self.close()

    def close(self) -> None:
        """The stream ends here."""
        self.closed = True
        if isinstance(self._ask, Skip) and self._left is None:
            self._finish()
        elif self.current is not None:
            self._cut_off()

    def _gap(self, until: int, *, missing: bool) -> None:
        """Bytes up to `until` were not captured: whole packets are `missing`, or the last one was cut."""
        known = isinstance(self._ask, Skip) and (self._left is None or self.at + self._left >= until) and self.current is not None
        if known and self.current is not None:
            assert isinstance(self._ask, Skip)
            self.current.more = True
            if self._ask.body:
                self.current.body.whole = False
            if self._left is not None:
                self._left -= until - self.at
            self.at = until
            if self._left == 0:
                self._go_on(b"")
            return
        if self.current is not None:
            self._cut_off()
        self.broken |= missing
        self.cut = True
        self.at, self.lost = until, True
        self.talk.lost(self)

    def _cut_off(self) -> None:
        """The message that has begun ends with what there is."""
        assert self.current is not None
        if not self.current.more:
            self.current.head += self.buffer[: MOST_HEAD_BYTES - len(self.current.head)]
        self.at += len(self.buffer)
        self.buffer.clear()
        self.current.end, self.current.more = self.at, True
        self.current.size = self.at + (self._left or 0) - self.current.start
        self.talk.messages.append(self.current)
        self._reset()

    def _finish(self) -> None:
        assert self.current is not None
        self.current.end, self.current.whole = self.at, True
        self.current.size = self.at - self.current.start
        self.talk.messages.append(self.current)
        self._reset()

    def _reset(self) -> None:
        self.current = self._task = self._ask = self._left = None
        self._looked = 0

    def _run(self, order: int, time_ns: int) -> None:
        while self.buffer and not self.lost:
            if self.current is None:
                self._begin(order, time_ns)
            elif not self._step():
                return

    def _begin(self, order: int, time_ns: int) -> None:
        framer = self.talk.framer(self)
        if framer is None:  # nothing after this is read
            self.at += len(self.buffer)
            self.buffer.clear()
            self.lost = True
            return
        if self.talk.turn != self._turn:
            self._turn, self._rank = self.talk.turn, 0
        self.current = Framed(
            self.talk.protocol, self.forward, self.at, order, self._turn, self._rank, self.broken, self.cut, time_ns
        )  # fmt: skip
        self._rank += 1
        self.broken = self.cut = False
        self._task = framer
        self._go_on(None)

    def _go_on(self, answer: bytes | None) -> None:
        """Give the framer what it asked for, and take its next question."""
        assert self._task is not None
        try:
            self._ask = next(self._task) if answer is None else self._task.send(answer)
        except StopIteration:
            self._finish()
            return
        except ValueError:  # what came is no message of this protocol
            self._give_up()
            return
        self._left = self._ask.size if isinstance(self._ask, Skip) else None
        if self._left is not None and self._left < 0:
            self._give_up()
            return
        self._looked = 0
        if self._left == 0:
            self._go_on(b"")

    def _give_up(self) -> None:
        self._left = None
        self._cut_off()
        self.broken = self.cut = self.lost = True
        self.talk.lost(self)

    def _step(self) -> bool:
        """Take one step with what is in the buffer; False where more has to come first."""
        ask, current = self._ask, self.current
        assert current is not None
        if isinstance(ask, Take):
            if len(self.buffer) < ask.size:
                return False
            self._go_on(self._consume(ask.size, MOST_HEAD_BYTES))
        elif isinstance(ask, Until):
            found = self.buffer.find(ask.delimiter, max(self._looked - len(ask.delimiter), 0))
            if found < 0:
                self._looked = len(self.buffer)
                if self._looked > MOST_LINE_BYTES:
                    self._give_up()
                return False
            self._go_on(self._consume(found + len(ask.delimiter), MOST_HEAD_BYTES))
        else:
            assert isinstance(ask, Skip)
            size = len(self.buffer) if self._left is None else min(self._left, len(self.buffer))
            already = (ask.size or 0) - (self._left or 0)
            part = self._consume(size, ask.keep - already)
            if ask.body:
                current.body.add(part)
            if self._left is not None:
                self._left -= size
                if self._left == 0:
                    self._go_on(b"")
        return True

    def _consume(self, size: int, keep: int) -> bytes:
        assert self.current is not None
        part = bytes(self.buffer[:size])
        # what is kept is the message's beginning, without a gap
        kept = b"" if self.current.more else part[: max(min(keep, MOST_HEAD_BYTES - len(self.current.head)), 0)]
        self.current.head += kept
        self.current.more |= len(kept) < size
        del self.buffer[:size]
        self.at += size
        return part


class Talk:
    """A connection that is being cut: both sides, and what each has to know of the other.

    A protocol is a subclass: `framer` gives the generator for a side's next message (None: nothing more is read), `begins` whether bytes
    look like the beginning of one, `lost` is told when a side's framing is lost.
    """

    protocol = ""

    def __init__(self) -> None:
        self.messages: list[Framed] = []
        self.turn = 0
        self.client, self.server = Side(self, forward=True), Side(self, forward=False)

    def framer(self, side: Side) -> Framer | None:
        """The generator that finds the end of the side's next message."""
        raise NotImplementedError

    def begins(self, payload: bytes, side: Side) -> bool:
        """Whether a message can begin with `payload`."""
        raise NotImplementedError

    def lost(self, side: Side) -> None:
        """The side's framing is lost."""


def cut(talk: Talk, pieces: Sequence[Piece], client: int = 0, server: int = 0) -> list[Framed]:
    """The messages of a connection's pieces (in the order in which they became readable), in the order in which they began.

    `client` and `server` are the places at which the protocol begins in each side's stream.
    """
    talk.client.at, talk.server.at = client, server
    forward: bool | None = None
    for order, piece in enumerate(pieces):
        begins_turn = piece.forward != forward
        if begins_turn and piece.wire:
            talk.turn += forward is not None
        side = talk.client if piece.forward else talk.server
        side.take_in(piece, order, begins_turn=begins_turn)
        forward = piece.forward if piece.wire else forward
    for side in (talk.client, talk.server):
        if not side.closed:
            side.close()
    return sorted(talk.messages, key=lambda message: (message.order, not message.forward, message.start))


Recipe = Callable[[], Talk]
