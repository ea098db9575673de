"""What clients and servers logged of their own sockets, and what hopline says of it, fact by fact: right, missing (null) or wrong.

One `Call` per request, with the columns of a recorded capture's truth.jsonl; a wrong fact is worse than a missing one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
FACTS = ("translated", "client", "server", "service", "parent", "status")


@dataclass(slots=True)
class Call:
    """A request: what the client's socket had, and what the server's log says; `peer` and `local` are None where no server accepted it.

    Owners are `namespace/pod`, `node:NAME` or `external`, as `owner` has them.
    """

    token: str
    case: str
    client: str
    service: str | None  # namespace/name; None: asked without one
    src: str
    dst: str
    started_ns: int
    status: str = "open"  # HTTP's, or how the attempt failed
    peer: str | None = None
    local: str | None = None
    server: str | None = None

    @property
    def translated(self) -> bool:
        """Whether NAT changed it on its way."""
        return self.peer is not None and (self.src, self.dst) != (self.peer, self.local)


def line(call: Call) -> Record:
    """The call as a line of a recorded capture's truth.jsonl, which other scorers read."""
    answered = call.peer is not None
    moment = call.started_ns / 1e9
    leg = {
        "leg": 1, "parent": 0, "what": call.case, "proto": "tcp", "src": call.src, "dst": call.dst, "peer": call.peer, "local": call.local,
        "nat": [call.dst] if call.translated else [], "from": _owned(call.client), "to": _owned(call.server), "service": call.service,
        "verified": answered, "t_start": moment, "t_end": moment, "conn_seq": None,
    }  # fmt: skip
    error = None if answered else f"Connection {call.status.capitalize()}"
    return {"id": call.token, "status": int(call.status) if answered else None, "error": error, "legs": [leg]}


def _owned(by: str | None) -> Record | None:
    kind, _, name = (by or "").rpartition(":")
    return None if by is None else {"node": name} if kind else {"host": by} if by == "external" else {"pod": by}


@dataclass(slots=True)
class Verdicts:
    """Of all calls: `tally[fact, verdict]`, how many had every fact right, and a line for each fact that is not."""

    judged: int = 0
    exact: int = 0
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return sum(count for (_, verdict), count in self.tally.items() if verdict == "wrong")


def owner(end: Record | None) -> str | None:
    """Whose end of a record it is, None where unknown."""
    kind = end and end["kind"]
    if not end or kind == "external":
        return kind
    return f"{end['namespace']}/{end['name']}" if kind == "pod" else f"node:{end['name']}"


def judge(calls: Iterable[Call], records: Iterable[Record]) -> Verdicts:
    """Compare each call with the record of its tuple, in order of time where several have one; nothing is joined by what hopline found."""
    said: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record["start_ns"]):
        if record["original"]:
            said[record["original"]["src"], record["original"]["dst"]].append(record)
    made: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.started_ns):
        made[call.src, call.dst].append(call)
    found = Verdicts()
    for key, some in made.items():
        answers = [*said.get(key, []), *[None] * len(some)]
        for call, record in zip(some, answers, strict=False):
            _count(found, call, record)
        for extra in said.get(key, [])[len(some) :]:
            _wrong(found, f"one more record of {key}: {extra['id']}")
        for far in {(call.peer, call.local) for call in some if call.translated} - made.keys():  # the join that was not made
            for record in said.get((str(far[0]), str(far[1])), []):
                _wrong(found, f"the far side of {key} is a record of its own: {record['id']}")
    return found


def _wrong(found: Verdicts, line: str) -> None:
    found.tally["unjoined", "wrong"] += 1
    found.told.append(line)


def _count(found: Verdicts, call: Call, record: Record | None) -> None:
    found.judged += 1
    verdicts = dict.fromkeys(FACTS, "missing") if record is None else _verdicts(call, record)
    found.exact += set(verdicts.values()) == {"right"}
    for fact, verdict in verdicts.items():
        found.tally[fact, verdict] += 1
        if verdict != "right":
            found.told.append(f"{verdict} {fact} of {call}: {record and {name: record[name] for name in (*FACTS, 'problems')}}")


def _verdicts(call: Call, record: Record) -> dict[str, str]:
    """Where no server accepted, only what the client knows is judged."""
    verdicts = {"client": _of(call.client, owner(record["client"])), "status": _of(call.status, record["status"])}
    verdicts["parent"] = "right" if record["parent"] is None else "wrong"
    service = record["service"]
    named = service and f"{service['namespace']}/{service['name']}"
    verdicts["service"] = _of(call.service, named) if call.service else "right" if not service or service["via"] == "direct" else "wrong"
    if call.peer is not None:
        end = record["translated"]
        verdicts["translated"] = _of((call.peer, call.local), end and (end["src"], end["dst"]))
        verdicts["server"] = _of(call.server, owner(record["server"]))
    return verdicts


def _of(true: object, said: object) -> str:
    return "right" if true == said else "missing" if said is None else "wrong"
