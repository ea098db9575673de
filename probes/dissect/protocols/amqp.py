"""AMQP 0-9-1: methods on channels (specification, section 1.1); what a broker delivers, and what is published, is no call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Exchange, Message, one
from probes.dissect.pairing import answered, begun
from probes.dissect.pdml import Layer

# (class, method): name, and the methods that answer it
CALLS: dict[tuple[int, int], tuple[str, tuple[int, ...]]] = {
    (10, 40): ("Connection.Open", (41,)), (10, 50): ("Connection.Close", (51,)),
    (20, 10): ("Channel.Open", (11,)), (20, 20): ("Channel.Flow", (21,)), (20, 40): ("Channel.Close", (41,)),
    (40, 10): ("Exchange.Declare", (11,)), (40, 20): ("Exchange.Delete", (21,)), (40, 30): ("Exchange.Bind", (31,)),
    (40, 40): ("Exchange.Unbind", (51,)),
    (50, 10): ("Queue.Declare", (11,)), (50, 20): ("Queue.Bind", (21,)), (50, 30): ("Queue.Purge", (31,)),
    (50, 40): ("Queue.Delete", (41,)),
    (50, 50): ("Queue.Unbind", (51,)),
    (60, 10): ("Basic.Qos", (11,)), (60, 20): ("Basic.Consume", (21,)), (60, 30): ("Basic.Cancel", (31,)),
    (60, 70): ("Basic.Get", (71, 72)),
    (60, 110): ("Basic.Recover", (111,)),
    (85, 10): ("Confirm.Select", (11,)), (90, 10): ("Tx.Select", (11,)), (90, 20): ("Tx.Commit", (21,)), (90, 30): ("Tx.Rollback", (31,)),
}  # fmt: skip
_PUBLISH, _CLOSE_CHANNEL, _CLOSE = (60, 40), (20, 40), (10, 50)
_GET_EMPTY = (60, 72)


def read(layer: Layer) -> Iterator[Message]:
    """A method frame; everything else (content, heartbeats, what is pushed) is a notice."""
    head = bytes(layer.message.head) if layer.message is not None else b""
    if len(head) < 11 or head[0] != 1:
        return
    channel, class_, method = (int.from_bytes(head[a:b], "big") for a, b in ((1, 3), (7, 9), (9, 11)))
    call = (class_, method)
    attributes = {"call": f"{class_}.{method}"}
    closes = call in (_CLOSE_CHANNEL, _CLOSE)
    code = one(layer.fields, "amqp.method.arguments.reply_code") if closes else None
    if call == _PUBLISH and layer.forward:
        attributes["no_response"] = "published"
        key = one(layer.fields, "amqp.method.arguments.routing_key")
        yield Message(REQUEST, channel, operation=f"Basic.Publish {key}" if key else "Basic.Publish", attributes=attributes)
    elif layer.forward and call in CALLS:
        name = next((value for field in ("queue", "exchange") if (value := one(layer.fields, f"amqp.method.arguments.{field}"))), None)
        operation = f"{CALLS[call][0]} {name}" if name else CALLS[call][0]
        yield Message(REQUEST, channel, operation=operation, attributes=attributes)
    else:
        yield Message(RESPONSE if not layer.forward else NOTICE, channel, status=f"error {code}" if code else None, attributes=attributes)


def pair(protocol: str, messages: list[Message]) -> list[Exchange]:
    """A channel has one call at a time; the method that answers it says so. A Close from the broker answers with its code."""
    found: list[Exchange] = []
    waiting: dict[int, tuple[Exchange, tuple[int, int]]] = {}
    for message in messages:
        class_, method = (int(number) for number in message.attributes.pop("call").split("."))
        if message.kind == REQUEST:
            found.append(begun(protocol, message))
            if "no_response" not in message.attributes:
                waiting[message.key] = found[-1], (class_, method)
        elif message.kind == RESPONSE and message.key in waiting:
            exchange, (of, asked) = waiting[message.key]
            refused = message.status is not None
            if refused or (class_ == of and method in CALLS[of, asked][1]):
                message.status = message.status or ("empty" if (class_, method) == _GET_EMPTY else "ok")
                answered(exchange, message)
                with suppress(KeyError):
                    del waiting[message.key]
    return found
