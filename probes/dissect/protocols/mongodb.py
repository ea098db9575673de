"""MongoDB wire protocol (MongoDB manual, "Wire Protocol"): OP_MSG, and the older OP_QUERY of a driver's first hello."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import REQUEST, RESPONSE, Message, one
from probes.dissect.pdml import Fields, Layer

_NAME = "mongo.element.name"
_VALUE = "mongo.element.value."


def _value(group: Fields) -> str | None:
    return next((values[0] for name, values in group.items() if name.startswith(_VALUE) and not name.endswith(".length")), None)


def read(layer: Layer) -> Iterator[Message]:
    """A command (`find items`) or its reply. Either may say that more comes: then a request gets no reply, and a reply goes on."""
    fields = layer.fields
    own, asked = one(fields, "mongo.request_id"), one(fields, "mongo.response_to")
    if own is None or asked is None:
        return
    more = one(fields, "mongo.msg.flags.moretocome") in ("1", "True")
    elements = [(group[_NAME][0], _value(group)) for group in layer.groups if _NAME in group]
    if layer.forward:
        name, target = elements[0] if elements else (f"op {one(fields, 'mongo.opcode')}", None)
        attributes = {"no_response": "moreToCome"} if more else {}
        database = next((value for element, value in elements if element == "$db"), None)
        attributes |= {"database": database} if database else {}
        shown = target if target is not None and not target.lstrip("-").replace(".", "").isdigit() else None
        yield Message(REQUEST, int(own, 0), operation=f"{name} {shown}" if shown else name, attributes=attributes)
        return
    last = dict(elements)  # of a name that rows have too, the reply's own comes last
    failed = (last.get("ok") or "1").rstrip("0").rstrip(".") in ("", "0")
    code = last.get("code")
    status = (f"error {code}" if code else "error") if failed else "ok"
    yield Message(RESPONSE, int(asked, 0), status=status, also=int(own, 0) if more else None)
