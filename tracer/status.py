"""What became of a connection, as its packets say."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, FIN, ICMP, ICMPV6, RST, SCTP, SYN, TCP
from probes.schema import Array, Table
from tracer.connections import Joined
from tracer.sightings import SCTP_INIT, SCTP_INIT_ACK

OPEN, CLOSED, REFUSED, TIMEOUT, RESET = range(5)
STATUSES = ("open", "closed", "refused", "timeout", "reset")

SCTP_ABORT, SCTP_SHUTDOWN, SCTP_SHUTDOWN_ACK, SCTP_SHUTDOWN_COMPLETE = 6, 7, 8, 14
UNANSWERED_ATTEMPTS = 2  # one SYN without an answer may still be on its way when the capture ends


def _any(joined: Joined, told: Array) -> Array:
    has = np.zeros(len(joined.bounds) - 1, bool)
    has[joined.connection[told]] = True
    return has


def _earliest(joined: Joined, told: Array, *, latest: bool = False) -> Array:
    """Time (int64 ns) of the first or last of the sightings `told` per connection, -1 where there are none."""
    none = np.iinfo("i8").min if latest else np.iinfo("i8").max
    times = np.full(len(joined.bounds) - 1, none, "i8")
    (np.maximum if latest else np.minimum).at(times, joined.connection[told], joined.sightings["time_ns"][told])
    return np.where(times == none, -1, times)


def unreachable(observations: Table) -> Array:
    """Whether each row ends an attempt: ICMP destination unreachable (RFC 792, RFC 4443), but not "fragmentation needed"."""
    v4 = (observations["proto"] == ICMP) & (observations["icmp_type"] == 3) & (observations["icmp_code"] != 4)
    return np.asarray(v4 | ((observations["proto"] == ICMPV6) & (observations["icmp_type"] == 1)))


def statuses(joined: Joined, observations: Table, rejected: Array) -> tuple[Array, Array]:
    """`(status, answer_ns)` of each connection; `rejected` is the time of an ICMP unreachable about it, -1 where there was none.

    `answer_ns` is the answer that decided: the SYN-ACK, else the last refusal, else the first reply.
    """
    sightings, ahead = joined.sightings, joined.forward
    rows = sightings["row"]
    flags, proto = observations["tcp_flags"][rows], observations["proto"][rows]
    tcp, sctp = proto == TCP, proto == SCTP
    opens = ahead & (tcp & (flags & (SYN | ACK) == SYN) | sctp & (flags == SCTP_INIT))
    accepts = ~ahead & (tcp & (flags & (SYN | ACK) == SYN | ACK) | sctp & (flags == SCTP_INIT_ACK))
    aborts = tcp & (flags & RST > 0) | sctp & (flags == SCTP_ABORT)
    ends = tcp & (flags & FIN > 0) | sctp & ((flags == SCTP_SHUTDOWN) | (flags == SCTP_SHUTDOWN_ACK))
    both_ended = _any(joined, ends & ahead) & _any(joined, ends & ~ahead) | _any(joined, sctp & (flags == SCTP_SHUTDOWN_COMPLETE))

    count = len(joined.bounds) - 1
    attempts = np.unique(np.stack([joined.connection[opens].astype("u8"), sightings["identity"][opens]]), axis=1)[0]
    attempted = np.bincount(attempts.astype("i8"), minlength=count)
    accepted, answered = _any(joined, accepts), _any(joined, ~ahead)
    aborted_by_server, aborted = _any(joined, aborts & ~ahead), _any(joined, aborts)
    stream = _any(joined, tcp | sctp)
    failed = stream & (attempted > 0) & ~accepted
    refused = (failed & aborted_by_server) | (rejected >= 0) & (failed | ~stream & ~answered)
    established = np.select([both_ended, aborted], [CLOSED, RESET], OPEN)
    datagrams = np.where(answered, CLOSED, OPEN)
    status = np.select(
        [refused, failed & (attempted >= UNANSWERED_ATTEMPTS), failed, stream], [REFUSED, TIMEOUT, OPEN, established], datagrams
    )
    refusals = np.maximum(_earliest(joined, aborts & ~ahead, latest=True), rejected)
    answer = np.where(refused, refusals, _earliest(joined, ~ahead))
    answer = np.where(accepted, _earliest(joined, accepts), answer)
    return status.astype("i1"), answer
