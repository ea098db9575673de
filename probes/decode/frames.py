"""The compiled pass: frames in, rows of observations out."""

from __future__ import annotations

from probes.decode.link import link_layer
from probes.decode.network import network
from probes.decode.numbers import EMBEDDED, IPV4, IPV6, OUTER, PLAIN, PORTS, UDP, UNKNOWN
from probes.decode.rows import Rows
from probes.decode.transport import is_icmp_error, transport
from probes.decode.tunnels import tunnelled
from probes.jit import bare, big16, byte, place
from probes.schema import Array

VIEWS_PER_FRAME = 4  # deepest nesting kept: two tunnels, an ICMP error and the header embedded in it


@bare
def decode_frames(
    data: Array, frames: Array, interfaces: Array, first_frame: int, first_row: int, rows: Rows, ifindexes: Array
) -> tuple[int, int, bool]:  # fmt: skip
    """Decode the `frames` of `data` (uint8) into `rows`, which must be zero; `(rows filled, frames that gave none, any fragments)`.

    `frames` has the fields offset, captured, wire (bytes), time_ns, interface (index into `interfaces`) and direction; `interfaces` has
    link_type. `rows` and `ifindexes` need room for VIEWS_PER_FRAME rows a frame. `point` is left as the interface's index; `frame` counts
    from `first_frame`, `outer` from `first_row`. A frame that is not IP gives no row; a tunnel gives a row per layer, an ICMP error one for
    itself and one for the header in it.
    """
    count, without, seen = 0, 0, 0
    for index in range(len(frames)):
        frame = frames[index]
        at, end, wire_end = frame["offset"], frame["offset"] + frame["captured"], frame["offset"] + frame["wire"]
        ethertype, at, direction, ifindex = link_layer(data, at, end, interfaces[place(frame["interface"])]["link_type"])
        if direction == UNKNOWN:
            direction = frame["direction"]
        before = count
        outer, tunnel, identifier, view = -1, PLAIN, 0, 0
        for _ in range(VIEWS_PER_FRAME):
            if ethertype not in (IPV4, IPV6):
                break
            row = place(count)
            proto, payload, length = network(rows, row, data, at, end, wire_end, ethertype)
            if proto < 0:
                break
            seen |= rows.known[row] | rows.fragment_offset[row]
            rows.captured_bytes[row], rows.wire_bytes[row] = frame["captured"], frame["wire"]
            rows.time_ns[row], rows.frame[row], rows.outer[row] = frame["time_ns"], first_frame + index, outer
            rows.point[row], rows.direction[row], rows.proto[row] = frame["interface"], direction, proto
            if tunnel != PLAIN:
                rows.tunnel[row], rows.vni[row] = tunnel, identifier
            rows.kind_of_view[row], ifindexes[row] = view, ifindex
            outer, count = first_row + count, count + 1
            if rows.fragment_offset[row] != 0:
                rows.payload_bytes[row] = max(length, 0)
                break
            if view == EMBEDDED:
                transport(rows, row, data, frame["offset"], payload, end, length, proto)
                rows.payload_at[row] = 0
                break
            wire_end = payload + max(length, 0)
            end = min(end, wire_end)
            tunnel, ethertype, at, identifier = tunnelled(data, proto, payload, end, length)
            if tunnel != PLAIN:
                rows.kind_of_view[row] = OUTER
                rows.payload_bytes[row] = max(length, 0)
                if proto == UDP:
                    rows.payload_bytes[row] = max(length - 8, 0)
                    rows.sport[row], rows.dport[row] = big16(data, payload), big16(data, payload + 2)
                    rows.known[row] |= PORTS
                continue
            transport(rows, row, data, frame["offset"], payload, end, length, proto)
            if not is_icmp_error(proto, rows.icmp_type[row]) or payload + 9 > end:
                break
            at, view = payload + 8, EMBEDDED
            ethertype = IPV4 if byte(data, at) >> 4 == 4 else IPV6
        if count == before:
            without += 1
    return count, without, seen != 0
