"""The compiled pass: frames in, rows of observations out."""

from __future__ import annotations

import numpy as np

from probes.decode.link import link_layer
from probes.decode.network import network
from probes.decode.numbers import EMBEDDED, IPV4, IPV6, OUTER, PLAIN, PORTS, UDP, UNKNOWN
from probes.decode.transport import is_icmp_error, transport
from probes.decode.tunnels import tunnelled
from probes.jit import bare, big16, byte, clear
from probes.schema import Array

VIEWS_PER_FRAME = 4  # deepest nesting kept: two tunnels, an ICMP error and the header embedded in it


@bare
def decode_frames(
    data: Array, frames: Array, interfaces: Array, first_frame: int, first_row: int, rows: Array, ifindexes: Array
) -> tuple[int, int]:  # fmt: skip
    """Decode the `frames` of `data` (uint8) into `rows` (OBSERVATIONS.dtype); `(rows filled, frames that gave none)`.

    `frames` has the fields offset, captured, wire (bytes), time_ns, interface (index into `interfaces`) and direction; `interfaces` has
    link_type. `rows` and `ifindexes` need room for VIEWS_PER_FRAME rows a frame. `point` is left as the interface's index; `frame` counts
    from `first_frame`, `outer` from `first_row`. A frame that is not IP gives no row; a tunnel gives a row per layer, an ICMP error one for
    itself and one for the header in it.
    """
    count, without = 0, 0
    for index in range(len(frames)):
        frame = frames[index]
        at, end, wire_end = frame["offset"], frame["offset"] + frame["captured"], frame["offset"] + frame["wire"]
        ethertype, at, direction, ifindex = link_layer(data, at, end, interfaces[frame["interface"]]["link_type"])
        if direction == UNKNOWN:
            direction = frame["direction"]
        before = count
        outer, tunnel, identifier, view = -1, PLAIN, 0, 0
        for _ in range(VIEWS_PER_FRAME):
            if ethertype not in (IPV4, IPV6):
                break
            clear(rows, count)
            row = rows[count]
            row["captured_bytes"], row["wire_bytes"] = frame["captured"], frame["wire"]
            proto, payload, length = network(row, data, at, end, wire_end, ethertype)
            if proto < 0:
                break
            row["time_ns"], row["frame"], row["outer"] = frame["time_ns"], first_frame + index, outer
            row["point"], row["direction"], row["proto"] = frame["interface"], direction, proto
            row["tunnel"], row["vni"], row["view"] = tunnel, identifier, view
            ifindexes[count] = ifindex
            outer, count = first_row + count, count + 1
            if row["fragment_offset"] != 0:
                row["payload_bytes"] = max(length, 0)
                break
            if view == EMBEDDED:
                transport(row, data, payload, end, length, proto)
                row["payload_at"] = 0
                break
            wire_end = payload + max(length, 0)
            end = min(end, wire_end)
            tunnel, ethertype, at, identifier = tunnelled(data, proto, payload, end, length)
            if tunnel != PLAIN:
                row["view"] = OUTER
                row["payload_bytes"] = max(length, 0)
                if proto == UDP:
                    row["payload_bytes"] = max(length - 8, 0)
                    row["sport"], row["dport"] = big16(data, payload), big16(data, payload + 2)
                    row["known"] |= PORTS
                continue
            transport(row, data, payload, end, length, proto)
            if row["payload_at"] > 0:
                row["payload_at"] -= np.uint32(frame["offset"])
            if not is_icmp_error(proto, row["icmp_type"]) or payload + 9 > end:
                break
            at, view = payload + 8, EMBEDDED
            ethertype = IPV4 if byte(data, at) >> 4 == 4 else IPV6
        if count == before:
            without += 1
    return count, without
