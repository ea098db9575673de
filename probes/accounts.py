"""What a recording says of itself (NODE.recording.json, written by `hopline record`), as far as a reader of its packets must know it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from probes.schema import Problem

_NOT_ASKED = "record without the condition to see the rest"


def read_account(content: bytes, file: str) -> list[Problem]:
    """What is not in the recording, and why: a line each. Packets that were lost are not told here: the captures count them themselves."""
    try:
        account = json.loads(content)
        return [Problem(file, what, remedy, None, severity) for what, remedy, severity in _findings(account)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [Problem(file, "is no account of a recording", "it was left out; the captures count their own losses", None, "warning")]


def _findings(account: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what, remedy, severity)."""
    if not account["complete"]:
        yield "the recording was cut off", "what came in its last moments is missing; look for what ended it", "warning"
    asked = account["selection"]
    conditions = [name for name in ("nets", "ports", "endpoints") if asked[name]]
    if conditions:
        left_out = account["packets"].get("selection", {}).get("filtered")
        number = "packets" if left_out is None else f"{left_out:,} packets"
        yield f"{number} were left out: only some {' and '.join(conditions)} were asked for", _NOT_ASKED, "note"
    if asked["share"] < 1:
        yield f"{asked['share']:.3%} of the connections were kept, as asked", "record with --sample 1 to see all", "note"
    for shed in account["shares"]:
        why = f"{shed['limit']} stood at {shed['value']:g}"
        what = f"from {_clock(shed['time_ns'])} on {shed['share']:.2%} of the connections were kept: {why}"
        yield what, "raise the limit, or ask for fewer packets", "warning"
    for each in account["unavailable"]:
        yield f"no {each['probe']}: {each['why']}", "hopline doctor says what that node lacks", "note"
    for step in account["clock_steps"]:
        what = f"the node's clock was set by {step['by_ns'] / 1e9:+.3f} s at {_clock(step['time_ns'])}"
        yield what, "this recording's times go on as before; other files of the node may jump there", "note"
    if account["packets"].get("file", {}).get("deleted_files"):
        deleted = account["packets"]["file"]["deleted_files"]
        yield f"the oldest {deleted} files were deleted to stay within the disk budget", "raise --max-disk", "warning"


def _clock(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%H:%M:%S} UTC"
