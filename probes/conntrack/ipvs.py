"""/proc/net/ip_vs_conn: IPVS's own connections, the only ledger where net.ipv4.vs.conntrack is 0.

The format is the kernel's `ip_vs_conn_seq_show` (net/netfilter/ipvs/ip_vs_conn.c): IPv4 as eight hexadecimal digits, IPv6 as %pI6, ports in
hexadecimal. A file may hold several dumps, each after a line `# <seconds since the epoch>`.
"""

from __future__ import annotations

import re

from probes.conntrack import rows
from probes.schema import Problem, Table

_PROTOCOLS = {b"TCP": 6, b"UDP": 17, b"SCTP": 132, b"IP": 0}
_ENDPOINT = rb"([0-9A-Fa-f:.]{8,39}) ([0-9A-Fa-f]{4})"
_LINE = re.compile(rb"^(\w+) +" + rb" +".join([_ENDPOINT] * 3) + rb" +(\w+) +\d+[^\n]*$")
_TIME = re.compile(rb"^# *(\d{1,10})(?:\.(\d{1,9}))?[ \t]*\r?$")
_STATES_AFTER_A_REPLY = {b"ESTABLISHED", b"FIN_WAIT", b"TIME_WAIT", b"CLOSE_WAIT", b"LAST_ACK"}


def _address(text: bytes) -> bytes:
    """As `probes.addresses` reads it: the eight digits of IPv4 become a dotted quad."""
    return b"%d.%d.%d.%d" % tuple(bytes.fromhex(text.decode())) if len(text) == 8 and b":" not in text else text


def read_ip_vs_conn(content: bytes, file: str) -> tuple[Table, list[Problem]]:
    """LEDGER rows (event 0, id -1) of /proc/net/ip_vs_conn, one per connection and dump, and Problems; never raises on content.

    original is client -> virtual address, reply is backend -> client. **The masquerade is not in this file**: where IPVS's traffic is also
    source-NATed, the reply's true destination differs from what is given here (address and port), and only conntrack knows it. Templates
    of persistence (client port 0) are skipped. The reply flag is set for TCP states that need a reply; IPVS does not tell for UDP.
    """
    known = rows.Addresses()
    read: list[tuple[int, ...]] = []
    problems: list[Problem] = []
    time_ns, bad_lines, first_bad, number = -1, 0, -1, 0
    lines = content.split(b"\n")
    if lines[-1].strip():
        # The state and the timer end a line: without a newline these may be cut, the endpoints are whole where they match.
        problems.append(rows.cut(file, len(lines), used=False))
    for number, line in enumerate(lines[:-1], 1):
        if time := _TIME.match(line):
            seconds = int(time[1])
            time_ns = seconds * 1_000_000_000 + int((time[2] or b"").ljust(9, b"0")) if seconds <= rows.LAST_SECOND else -1
            continue
        if not line.strip() or line.startswith((b"Pro ", b"#")):
            continue
        match = _LINE.match(line)
        ends = [known[_address(match[group])] for group in (2, 4, 6)] if match else [-1]
        if match is None or min(ends) < 0 or match[1] not in _PROTOCOLS:
            bad_lines += 1
            first_bad = number if first_bad < 0 else first_bad
            continue
        client_port, virtual_port, backend_port = (int(match[group], 16) for group in (3, 5, 7))
        if client_port:
            client, virtual, backend = (known.parsed[row] for row in ends)
            flags = rows.REPLIED if match[8] in _STATES_AFTER_A_REPLY else 0
            ports = (client_port, virtual_port, backend_port, client_port)
            read.append((time_ns, -1, -1, *client, *virtual, *backend, *client, *ports, _PROTOCOLS[match[1]], rows.EVENTS["dump"], flags))
    if bad_lines:
        problems.append(rows.unreadable(file, bad_lines, first_bad, "connections of ip_vs_conn"))
    return rows.table(read), problems
