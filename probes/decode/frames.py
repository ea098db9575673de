"""The compiled pass: frames in, rows of observations out."""

from __future__ import annotations

from probes.decode.link import be16, link_layer
from probes.decode.network import network
from probes.decode.numbers import EMBEDDED, IPV4, IPV6, OUTER, PLAIN, PORTS, UDP, UNKNOWN
from probes.decode.transport import is_icmp_error, transport
from probes.decode.tunnels import tunnelled
from probes.jit import kernel
from probes.schema import Array

VIEWS_PER_FRAME = 4  # deepest nesting kept: two tunnels, an ICMP error and the header embedded in it


@kernel
def decode_frames(
    data: Array, offsets: Array, captured: Array, wire: Array, times: Array, interfaces: Array, directions: Array, link_types: Array,
    first_frame: int, rows: Array, ifindexes: Array,
) -> int:  # fmt: skip
    """Decode `len(offsets)` frames of `data` (uint8) into `rows` (OBSERVATIONS.dtype, zeroed); returns how many rows were filled.

    `offsets`, `captured`, `wire` (bytes), `times` (ns), `interfaces` (index into `link_types`) and `directions` have one entry per frame.
    `rows` and `ifindexes` need room for VIEWS_PER_FRAME rows a frame. `point` is left as the interface's index, `outer` as a row of `rows`.
    A frame that is not IP gives no row; a tunnel gives a row per layer, an ICMP error one for itself and one for the header in it.
    """
    count = 0
    for frame in range(len(offsets)):
        at, end = offsets[frame], offsets[frame] + captured[frame]
        ethertype, at, direction, ifindex = link_layer(data, at, end, link_types[interfaces[frame]])
        if direction == UNKNOWN:
            direction = directions[frame]
        outer, tunnel, identifier, view = -1, PLAIN, 0, 0
        for _ in range(VIEWS_PER_FRAME):
            if ethertype != IPV4 and ethertype != IPV6:  # noqa: PLR1714 (compiled code)
                break
            row = rows[count]
            row["captured_bytes"], row["wire_bytes"] = captured[frame], wire[frame]
            proto, payload, length = network(row, data, at, end, ethertype)
            if proto < 0:
                break
            row["time_ns"], row["frame"], row["outer"] = times[frame], first_frame + frame, outer
            row["point"], row["direction"], row["proto"] = interfaces[frame], direction, proto
            row["tunnel"], row["vni"], row["view"] = tunnel, identifier, view
            ifindexes[count] = ifindex
            outer, count = count, count + 1
            if row["fragment_offset"] != 0 or view == EMBEDDED:
                if view == EMBEDDED and row["fragment_offset"] == 0:
                    transport(row, data, payload, end, length, proto)
                break
            end = min(end, payload + max(length, 0))
            tunnel, ethertype, at, identifier = tunnelled(data, proto, payload, end, length)
            if tunnel != PLAIN:
                row["view"] = OUTER
                if proto == UDP and payload + 4 <= end:
                    row["sport"], row["dport"] = be16(data, payload), be16(data, payload + 2)
                    row["known"] |= PORTS
                continue
            transport(row, data, payload, end, length, proto)
            if not is_icmp_error(proto, row["icmp_type"]) or payload + 9 > end:
                break
            at, view = payload + 8, EMBEDDED
            ethertype = IPV4 if data[at] >> 4 == 4 else IPV6
    return count
