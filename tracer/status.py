"""What became of a connection, as its packets say."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, FIN, ICMP, ICMPV6, RST, SCTP, SEQUENCE, SYN, TCP
from probes.jit import kernel
from probes.schema import Array, Table
from tracer.connections import Joined
from tracer.sightings import SCTP_INIT, SCTP_INIT_ACK

OPEN, CLOSED, REFUSED, TIMEOUT, RESET = range(5)
STATUSES = ("open", "closed", "refused", "timeout", "reset")

SCTP_ABORT, SCTP_SHUTDOWN, SCTP_SHUTDOWN_ACK, SCTP_SHUTDOWN_COMPLETE = 6, 7, 8, 14
UNANSWERED_ATTEMPTS = 2  # one SYN without an answer may still be on its way when the capture ends
NEVER = np.iinfo("i8").max


def unreachable(observations: Table, rows: Array) -> Array:
    """Whether each of `rows` ends an attempt: ICMP destination unreachable (RFC 792, RFC 4443), but not "fragmentation needed"."""
    proto, kind, code = (observations[name][rows] for name in ("proto", "icmp_type", "icmp_code"))
    return np.asarray(((proto == ICMP) & (kind == 3) & (code != 4)) | ((proto == ICMPV6) & (kind == 1)))


def statuses(joined: Joined, observations: Table, rejected: Array) -> tuple[Array, Array]:
    """`(status, answer_ns)` of each connection; `rejected` is the time of an ICMP unreachable about it, -1 where there was none.

    `answer_ns` is the answer that decided: the SYN-ACK, else the last refusal, else the first reply.
    """
    count = len(joined.bounds) - 1
    status, answer_ns = np.empty(count, "i1"), np.empty(count, "i8")
    sightings = joined.sightings
    _tell(
        joined.bounds, joined.forward, sightings["row"], sightings["identity"], sightings["time_ns"], observations["proto"],
        observations["tcp_flags"], observations["known"], observations["seq"], rejected, status, answer_ns,
    )  # fmt: skip
    return status, answer_ns


@kernel
def _tell(  # noqa: PLR0913, PLR0917 - columns
    bounds: Array, forward: Array, rows: Array, identity: Array, time_ns: Array, proto: Array, tcp_flags: Array, known: Array, seq: Array,
    rejected: Array, status: Array, answer_ns: Array,
) -> None:  # fmt: skip
    """What became of each connection; of its attempts it matters whether there was one, and whether there were several.

    A reset with sequence number 0 answers what acknowledged nothing: an attempt, seen or not (RFC 9293, 3.10.7.1). A client that
    acknowledges was accepted, seen or not.
    """
    for connection in range(len(bounds) - 1):
        stream = aborted = accepted = client_ended = server_ended = False
        attempts, attempt = 0, identity[bounds[connection]]
        accepted_ns, replied_ns, refused_ns = NEVER, NEVER, -1
        for at in range(bounds[connection], bounds[connection + 1]):
            ahead, kind, flags = forward[at], proto[rows[at]], tcp_flags[rows[at]]
            opens = accepts = aborts = ends = done = acknowledges = False
            if kind == TCP:
                opens, accepts = flags & (SYN | ACK) == SYN, flags & (SYN | ACK) == SYN | ACK
                aborts, ends, acknowledges = flags & RST > 0, flags & FIN > 0, flags & (SYN | RST | ACK) == ACK
            elif kind == SCTP:
                opens, accepts, aborts = flags == SCTP_INIT, flags == SCTP_INIT_ACK, flags == SCTP_ABORT
                ends, done = flags == SCTP_SHUTDOWN or flags == SCTP_SHUTDOWN_ACK, flags == SCTP_SHUTDOWN_COMPLETE  # noqa: PLR1714, SIM109
            stream |= kind == TCP or kind == SCTP  # noqa: PLR1714 - no set in a kernel
            aborted |= aborts
            client_ended |= done or (ends and ahead)
            server_ended |= done or (ends and not ahead)
            if ahead:
                accepted |= acknowledges
                if opens and (attempts == 0 or identity[at] != attempt):
                    attempts, attempt = attempts + 1, identity[at]
                continue
            replied_ns = min(replied_ns, time_ns[at])
            if accepts:
                accepted, accepted_ns = True, min(accepted_ns, time_ns[at])
            if aborts:
                refused_ns = max(refused_ns, time_ns[at])
                if kind == TCP and flags & ACK and known[rows[at]] & SEQUENCE and seq[rows[at]] == 0:
                    attempts = max(attempts, 1)
        failed = stream and attempts > 0 and not accepted
        answered = replied_ns != NEVER
        refused = (failed and refused_ns >= 0) or (rejected[connection] >= 0 and (failed or not (stream or answered)))
        ended = CLOSED if client_ended and server_ended else RESET if aborted else OPEN
        datagrams = CLOSED if answered else OPEN
        unanswered = TIMEOUT if attempts >= UNANSWERED_ATTEMPTS else OPEN
        status[connection] = REFUSED if refused else unanswered if failed else ended if stream else datagrams
        replied_ns = replied_ns if answered else -1
        answer_ns[connection] = accepted_ns if accepted_ns != NEVER else max(refused_ns, rejected[connection]) if refused else replied_ns
