"""conntrack's own start times (`-o ktimestamp`, with net.netfilter.nf_conntrack_timestamp=1).

They are printed by ctime(3): whole seconds, in the local time of the machine, without its zone. `delta-time` (seconds since the start)
beside the line's own time gives the zone.
"""

from __future__ import annotations

import calendar
import re

import numpy as np

from probes.schema import Array

_MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_START = re.compile(rb"\[start=\w+ +(\w+) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})\]")
_ZONE_STEP_S = 900  # every zone in use is a multiple of a quarter of an hour from UTC
UNKNOWN = -1


def _local_s(content: bytes, place: int) -> int:
    """Seconds since the epoch as if the time printed at `place` were UTC; -1 where none is."""
    match = _START.match(content, place) if place >= 0 else None
    if match is None or match[1] not in _MONTHS:
        return UNKNOWN
    day, hour, minute, second, year = (int(text) for text in match.groups()[1:])
    return calendar.timegm((year, _MONTHS[match[1]], day, hour, minute, second)) if 1970 <= year <= 2200 and day else UNKNOWN


def starts(content: bytes, places: Array, delta_s: Array, time_ns: Array) -> tuple[Array, bool]:
    """`start_ns` (i8, -1 where unknown) of entries whose `[start=` stands at `places` in `content` (-1 where it does not).

    `delta_s` is their delta-time, `time_ns` the time in front of their lines (both -1 where not printed). True beside it where no line
    told the zone and local times were taken as UTC.
    """
    if not (places >= 0).any():
        return np.full(len(places), UNKNOWN, "i8"), False
    local_s = np.array([_local_s(content, place) for place in places.tolist()], "i8")
    started = local_s >= 0
    telling = started & (delta_s >= 0) & (time_ns >= 0)
    zone_s = np.rint((local_s + delta_s - time_ns // 1_000_000_000) / _ZONE_STEP_S).astype("i8") * _ZONE_STEP_S
    common_s = int(np.median(zone_s[telling])) if telling.any() else 0
    start_s = local_s - np.where(telling, zone_s, common_s)
    return np.where(started, start_s * 1_000_000_000, UNKNOWN), bool(started.any() and not telling.any())
