"""MySQL and MariaDB client/server protocol ("Protocol basics", MySQL internals manual)."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Message, one
from probes.dissect.pdml import Layer
from probes.dissect.words import MOST_OF_RESULT, words

QUIT, QUERY, STATEMENT_CLOSE, STATEMENT_SEND_LONG_DATA = 1, 3, 25, 24
COMMANDS = {
    0: "Sleep", 1: "Quit", 2: "Init DB", 3: "Query", 4: "Field List", 5: "Create DB", 6: "Drop DB", 7: "Refresh", 8: "Shutdown",
    9: "Statistics", 10: "Process Info", 12: "Process Kill", 14: "Ping", 17: "Change User", 18: "Binlog Dump", 22: "Prepare", 23: "Execute",
    24: "Send Long Data", 25: "Close Statement", 26: "Reset Statement", 27: "Set Option", 28: "Fetch", 31: "Reset Connection",
}  # fmt: skip
FIELDS = r"mysql\.(?:command|error_code|error\.code|packet_number|query|row\.text|user|version)"
LONGEST_OPERATION = 200  # characters of a statement that are kept


def read(layer: Layer) -> Iterator[Message]:
    """A command is a request (QUIT, and what gets no answer, is none); the login is a notice, as is the greeting."""
    fields = layer.fields
    command = one(fields, "mysql.command")
    if layer.forward:
        # a command is number 0 of its turn; a login without the greeting before it is dissected as one
        if command is None or int(one(fields, "mysql.packet_number") or 0):
            yield Message(NOTICE, attributes={"login": "yes"} if "mysql.user" in fields else {})
            return
        number = int(command, 0)
        if number in (QUIT, STATEMENT_CLOSE, STATEMENT_SEND_LONG_DATA):
            yield Message(NOTICE)
            return
        statement = (one(fields, "mysql.query") or "").strip() or COMMANDS.get(number, f"command {number}")
        yield Message(REQUEST, operation=statement[:LONGEST_OPERATION], attributes={"statement": statement})
        return
    if "mysql.version" in fields:
        yield Message(NOTICE)
        return
    code = one(fields, "mysql.error_code") or one(fields, "mysql.error.code")
    number = int(one(fields, "mysql.packet_number") or 0)
    found = words(fields.get("mysql.row.text", []), MOST_OF_RESULT)
    attributes = {"values": " ".join(found)} if found else {}
    yield Message(RESPONSE, number, status=f"error {code}" if code is not None else "ok", attributes=attributes)
