"""Stories and packets on a terminal: `hopline explain`. Everything that comes from packets passes `plain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from analysis.dissected import Packet
from analysis.explain import Line, Story
from analysis.terminal import STYLES, clock, duration, plain, what, who
from probes.deep import Field

_STYLES = {
    "request": "cyan", "response": "cyan", "NAT": "yellow", "waited": "red", "refused": "red", "no answer": "red", "rules": "red",
    "called": "magenta", "called by": "magenta",
}  # fmt: skip
_INDENT = "    "
_SHORT_DEPTH = 2  # of fields inside fields in the short form
_LONGEST = 160  # characters of a value in the short form
_TRANSPORTS = ("tcp", "udp", "sctp")


def draw_story(out: Console, story: Story, start_ns: int) -> None:
    """Print what a story is about, then its lines, each with its time since `start_ns`, how long it took, evidence and `file#frame`."""
    record, indent = story.record, _INDENT * story.depth
    name = " ".join(each for each in (record["protocol"], record["operation"]) if each)
    status = str(record["status"])
    when = f"  {clock(record['start_ns'])}, {duration(record['end_ns'] - record['start_ns'] or None)}"
    out.print(Text.assemble(indent, (plain(f"{record['id']}  {name}  "), "bold"), (plain(status), STYLES.get(status, "")), when),
              soft_wrap=True)  # fmt: skip
    for label, text in _about(record):
        out.print(Text.assemble(indent, (f"{label:<10} ", "dim"), plain(text)), soft_wrap=True)
    for line in story.lines:
        out.print(_line(line, start_ns, indent), soft_wrap=True)


def _about(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    original, latency = record["original"], record["latency"]
    client = record["client"]
    named = client is not None and client["kind"] in ("pod", "node")
    yield "client", f"{who(client)} {client['address']}" if named else "not known" if client is None else client["address"]
    asked = [what(record), *([original["dst"]] if original else []), *([f"host {record['host']}"] if record.get("host") else [])]
    yield "asked for", ", ".join(asked)
    if "connection" in record:
        yield "belongs to", f"connection {record['connection']}, trace {record['trace']}"
    if record.get("ingress"):
        rule = record["ingress"]
        agrees = {True: "packets went there", False: "PACKETS WENT ELSEWHERE", None: "where packets went is not told"}[rule["agrees"]]
        yield "rule", f"{rule['kind']} {rule['namespace']}/{rule['name']} to {rule['service']}: {agrees}"
    if record.get("true_client"):
        yield "speaks for", f"{record['true_client']['address']} ({record['true_client']['source']})"
    if record.get("unread"):
        yield "unread", f"its requests could not be read: {record['unread']}"
    parts = {name: latency.get(f"{name}_ns") for name in ("network", "server", "self")}
    if parts["server"] is not None:
        yield "time", ", ".join(f"{name} {duration(value)}" for name, value in parts.items())
    if any((latency.get("shares") or {}).values()):
        yield "spent by", ", ".join(f"{name} {duration(value)}" for name, value in latency["shares"].items() if value)
    yield "joined by", f"{', '.join(record['evidence']) or 'a single observation point'}; confidence {record['confidence']:.3f}"
    for problem in record["problems"]:
        yield "open", problem


def _line(line: Line, start_ns: int, indent: str) -> Text:
    at = "" if line.time_ns is None else f"{'-' if line.time_ns < start_ns else '+'}{duration(abs(line.time_ns - start_ns))}"
    return Text.assemble(
        f"{indent}{at:>11}  ", (f"{line.kind:<9} ", _STYLES.get(line.kind, "bold")), plain(line.text), (_took(line), "green"),
        (plain(f"  [{', '.join(line.evidence)}]") if line.evidence else "", "dim"),
        (plain(f"  {line.source}") if line.source else "", "blue"),
    )  # fmt: skip


def _took(line: Line) -> str:
    """How long it took, how far that may be off, and whether that says anything."""
    if line.took_ns is None:
        return ""
    apart = "?" if line.uncertainty_ns is None else duration(line.uncertainty_ns)
    return f"  {duration(line.took_ns)} ± {apart}{', not separable' if line.separable is False else ''}"


def draw_packet(out: Console, of: str, packet: Packet, names: Sequence[str], *, long: bool) -> None:
    """Print a packet as a tree of its layers, of all or those called `names`.

    The short form opens what is above the transport, or what was named; `long` has every field with its filter name.
    """
    way = "response" if packet.reply else "request"
    cut = f", {packet.captured_bytes} captured" if packet.captured_bytes < packet.wire_bytes else ""
    title = f"{of} {way}  {packet.file}#{packet.frame}"
    where = f"  {packet.node} {packet.interface}, {clock(packet.time_ns)}, {packet.wire_bytes} bytes{cut}"
    tree = Tree(Text.assemble((plain(title), "bold"), plain(where)), guide_style="dim")
    transport = max((place for place, layer in enumerate(packet.layers) if layer.name in _TRANSPORTS), default=-1)
    for place, layer in enumerate(packet.layers):
        if names and layer.name not in names:
            continue
        branch = tree.add(_field(layer, long=long))
        if long or names or place > transport:
            _grow(branch, layer.fields, 1, long=long)
    out.print(tree, soft_wrap=True)


def _grow(tree: Tree, fields: Sequence[Field], depth: int, *, long: bool) -> None:
    for field in fields:
        if long or not field.hidden:
            branch = tree.add(_field(field, long=long))
            if long or depth < _SHORT_DEPTH:
                _grow(branch, field.fields, depth + 1, long=long)


def _field(field: Field, *, long: bool) -> Text:
    shown = plain(field.shown)
    if long:
        return Text.assemble(shown, (f"  {plain(field.name)}" if field.name else "", "dim"))
    return Text(shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…")
