"""`hopline explain`: one request, connection or trace told line by line, and its packets field by field."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.commands.options import (
    EXIT_INPUT,
    EXIT_PROBLEMS,
    EXIT_USAGE,
    Cluster,
    Keys,
    MinConfidence,
    NoCache,
    NoCluster,
    NoLedger,
    NoRules,
    answers,
    fail,
)  # fmt: skip
from analysis.commands.output import printing

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.dissected import Packet
    from analysis.explain import Explainer, Story
    from analysis.requests import RequestRecorder

MOST_PACKETS = 40


class Fields(StrEnum):
    """How much of each packet is shown."""

    short = "short"
    long = "long"


def explain(
    bundle: Annotated[Path, typer.Argument(help='A bundle folder or a capture; "-" is a capture on standard input.')],
    which: Annotated[str, typer.Argument(metavar="ID", help="A request (r17), a connection (c12) or a whole trace (t3).")],
    cluster: Cluster = None,
    packets: Annotated[
        bool, typer.Option("--packets/--no-packets", help="Dissect its packets field by field (pyshark and tshark).")
    ] = True,
    at: Annotated[
        str | None, typer.Option(metavar="NODE/INTERFACE", help="Packets as seen there. Default: where the request was seen first.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="Packets as seen at every observation point.")] = False,
    layers: Annotated[str | None, typer.Option(metavar="NAMES", help="Only these layers, such as http,tcp. Default: all.")] = None,
    fields: Annotated[Fields, typer.Option(help="long: every field, with the name that Wireshark filters by.")] = Fields.short,
    limit: Annotated[int, typer.Option(min=0, help="Packets to dissect of each request at each point, 0 for all.")] = MOST_PACKETS,
    keys: Keys = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (docs/explain.md).")] = False,
    min_confidence: MinConfidence = 0.9,
    no_ledger: NoLedger = False,
    no_rules: NoRules = False,
    no_cluster: NoCluster = False,
    no_cache: NoCache = False,
) -> None:
    """Tell what happened to one request, with evidence and packets.

    The story: who called, the lookup and handshake before, every observation point that the request's first byte passed with its tuple
    there and the NAT between, who served it, the calls made for it and why they are believed to be, the way back, waits, the end. Then the
    packets that carried it, field by field, from the captures themselves and with their frame numbers.

    Examples:
      hopline explain bundle/ r17
      hopline explain bundle/ r17 --at node-c/eth0 --layers tcp,http --fields long
      hopline explain bundle/ t3 --no-packets
      hopline explain bundle/ c12 --everywhere --json | jq '.packets[].frame'

    IDs hold for one set of evidence: leave out here what was left out of `hopline trace`. Exit codes: 0 told (also where pyshark or tshark
    is missing: the story is told and the remedy said), 1 told but tshark failed, 2 no such ID or place, or wrong usage, 3 nothing to read,
    or a capture changed while it was read.
    """
    if at is not None and everywhere:
        fail("--at and --everywhere exclude each other (leave one out)", EXIT_USAGE)
    known = answers([bundle], cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster, keys=keys, no_cache=no_cache)
    from probes.dissect import ask_ahead  # noqa: PLC0415 - imports are slow, --help is not

    if packets:
        ask_ahead()
    from analysis.blocks import Blocks  # noqa: PLC0415
    from analysis.explain import Explainer  # noqa: PLC0415
    from analysis.records import Recorder  # noqa: PLC0415
    from analysis.requests import RequestRecorder  # noqa: PLC0415
    from probes.deep import lacking  # noqa: PLC0415
    from tracer.requests.dissection import NO_PAYLOAD  # noqa: PLC0415

    connections = Recorder(known.requests().trace)
    recorder = RequestRecorder(known.requests(), min_confidence, Blocks(len(connections), connections.records))
    stories = _stories(bundle, which, recorder, Explainer(recorder))
    if isinstance(stories, str):
        fail(stories, EXIT_USAGE)
    problem = recorder.found.dissection.problem
    notes = [] if problem is None else [f"requests could not be read, every connection counts as one: {problem}"]
    missing = None
    if packets:
        missing = lacking() if recorder.trace.bundle.has_payload else NO_PAYLOAD
    if missing is not None:
        notes.append(f"packets are not dissected: {missing}")
    asked = stories if packets and missing is None else []
    seen, left_out, failure = _packets(recorder, asked, at, everywhere=everywhere, most=limit, keys=keys)
    if left_out:
        notes.append(f"{left_out:,} more packets (--limit 0 dissects all)")
    names = [name.strip().lower() for name in layers.split(",")] if layers else []
    notes += _unknown_layers(names, seen)
    with printing():
        if as_json:
            _print_json(which, stories, seen, names, notes)
        else:
            _print(stories, seen, names, notes, long=fields == Fields.long)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if failure is not None:
        fail(*failure)


def _stories(bundle: Path, which: str, recorder: RequestRecorder, explainer: Explainer) -> list[Story] | str:
    """The stories that `which` names, or why there are none."""
    kind, digits = which[:1], which[1:]
    number = int(digits) if digits.isascii() and digits.isdigit() else 0
    requests, connections = len(recorder), len(recorder.trace.named)
    if kind == "c" and 1 <= number <= connections:
        return [explainer.connection(number - 1)]
    if kind in ("r", "t") and 1 <= number <= requests:
        request = recorder.order[number - 1]
        if kind == "r":
            return [explainer.request(request)]
        if request not in recorder.parent:
            return list(explainer.trace(request))
        return f"no trace {which} in {bundle}: r{number} belongs to {recorder.record(request)['trace']}"
    roots = [f"t{recorder.ids[request][1:]}" for request in recorder.order if request not in recorder.parent]
    if not roots:
        return f"no {which}: {bundle} has no connections"
    return f"no {which}: {bundle} has r1 to r{requests}, c1 to c{connections} and {len(roots)} traces, {roots[0]} to {roots[-1]}"


def _packets(
    recorder: RequestRecorder, stories: Sequence[Story], at: str | None, *, everywhere: bool, most: int, keys: Path | None
) -> tuple[list[tuple[str, Packet]], int, tuple[str, int] | None]:
    """`(packets, each with the id of whose it is; how many were left out; message and exit code where it failed)`."""
    from analysis.dissected import look, place_names  # noqa: PLC0415 - imports are slow, --help is not
    from probes.deep import DeepError  # noqa: PLC0415
    from tracer.requests.carried import Connection, FrameError  # noqa: PLC0415

    seen: list[tuple[str, Packet]] = []
    left_out = 0
    there = [(story, Connection(recorder.found, story.connection).places(story.request)) for story in stories]
    if at is not None and stories:
        names = dict.fromkeys(name for _, places in there for name in place_names(recorder.found, places))
        if at not in names:
            fail(f"--at {at}: not seen there (seen at {', '.join(names) or 'no place'})", EXIT_USAGE)
    for story, places in there:
        chosen = places if everywhere else places[:1]
        if at is not None:
            chosen = [place for place, name in zip(places, place_names(recorder.found, places), strict=True) if name == at]
        try:
            found, more = look(recorder.found, story.connection, story.request, chosen, most=most, keys=keys)
        except DeepError as error:
            return seen, left_out, (str(error), EXIT_PROBLEMS)
        except FrameError as error:
            return seen, left_out, (str(error), EXIT_INPUT)
        seen += [(story.record["id"], packet) for packet in found]
        left_out += more
    return seen, left_out, None


def _unknown_layers(names: Sequence[str], seen: Sequence[tuple[str, Packet]]) -> list[str]:
    there = list(dict.fromkeys(layer.name for _, packet in seen for layer in packet.layers))
    return [f"no layer {name} in these packets (there are {', '.join(there)})" for name in names if there and name not in there]


def _print_json(
    which: str, stories: Sequence[Story], seen: Sequence[tuple[str, Packet]], names: Sequence[str], notes: Sequence[str]
) -> None:
    told: dict[str, Any] = {
        "id": which,
        "stories": [
            {"id": story.record["id"], "depth": story.depth, "record": story.record, "lines": [asdict(line) for line in story.lines]}
            for story in stories
        ],
        "packets": [
            {"id": of} | asdict(packet) | {"layers": [asdict(layer) for layer in packet.layers if not names or layer.name in names]}
            for of, packet in seen
        ],
        "notes": list(notes),
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")  # ASCII: what packets say cannot steer a terminal


def _print(stories: Sequence[Story], seen: Sequence[tuple[str, Packet]], names: Sequence[str], notes: Sequence[str], *, long: bool) -> None:
    from analysis.storyboard import draw_packet, draw_story  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.terminal import console  # noqa: PLC0415

    out: Console = console()
    start = stories[0].record["start_ns"]
    for place, story in enumerate(stories):
        if place:
            out.print()
        draw_story(out, story, start)
    for of, packet in seen:
        out.print()
        draw_packet(out, of, packet, names, long=long)
    if notes:
        out.print()
