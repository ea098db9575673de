"""Redis commands and replies. tshark 4.0 dissects RESP2; of RESP3 the message's first letter is enough."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Exchange, Message, one
from probes.dissect.pairing import by_order
from probes.dissect.pdml import Layer

LONGEST_OPERATION = 200
_SECRETS = frozenset(("AUTH", "HELLO", "EVAL", "EVALSHA", "MIGRATE"))  # of these the arguments are not kept
_CONFIRMED = frozenset(f"{way}subscribe" for way in ("", "p", "s", "un", "pun", "sun"))
_PUSHED = frozenset(("message", "pmessage", "smessage"))


def _text(value: str) -> str:
    return bytes.fromhex(value.replace(":", "")).decode("utf-8", "replace")


def read(layer: Layer) -> Iterator[Message]:
    """A command (name and first argument) or a reply; what a server pushes is no reply, but for the confirmation of a subscription."""
    head = bytes(layer.message.head) if layer.message is not None else b""
    if layer.forward:
        yield _command(layer, head)
        return
    values = layer.fields.get("resp.bulk_string.value", [])
    kind, first = head[:1], _text(values[0]).lower() if values else ""
    error = one(layer.fields, "resp.error") or (head[1:80].decode("utf-8", "replace") if kind == b"-" else None)
    if kind == b"!":
        error = head.partition(b"\r\n")[2].decode("utf-8", "replace")
    status = f"error {error.split()[0]}" if error and kind in b"-!" else "ok"
    attributes = {"first": first} if kind in b"*>" and first in _CONFIRMED | _PUSHED else {}
    notice = kind == b">" and first not in _CONFIRMED
    yield Message(NOTICE if notice else RESPONSE, status=status, attributes=attributes)


def _command(layer: Layer, head: bytes) -> Message:
    values = [_text(value) for value in layer.fields.get("resp.bulk_string.value", [])]
    if not values:  # inline
        values = head.decode("utf-8", "replace").split()
    name, arguments = (values[0].upper() if values else ""), values[1:]
    shown = arguments[:1] if name not in _SECRETS else []
    answers = max(len(arguments), 1) if name.lower() in _CONFIRMED else 1
    return Message(REQUEST, operation=" ".join([name, *shown])[:LONGEST_OPERATION] or None, answers=answers)


def pair(protocol: str, messages: list[Message]) -> list[Exchange]:
    """By order, without what subscribers are sent (RESP2 sends that as replies)."""
    subscribed = False
    replies = []
    for message in messages:
        if message.kind == REQUEST and (message.operation or "").partition(" ")[0].lower() in _CONFIRMED:
            subscribed = True
        first = message.attributes.pop("first", None) if message.kind == RESPONSE else None
        if not (subscribed and first in _PUSHED):
            replies.append(message)
    return by_order(protocol, replies)
