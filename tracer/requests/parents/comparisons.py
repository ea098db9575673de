"""In which respects a call and a request that may have caused it are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from probes.schema import Array
from tracer.requests.parents.linkage import Comparison

ABSENT, DIFFER, COMMON, UNCOMMON, RARE = range(5)
# beforehand: what a value that passes through is among true pairs and others, where it is there at all
_PASSES = ((0.2, 0.08, 0.24, 0.24, 0.24), (0.2, 0.6, 0.17, 0.025, 0.005))
_DELAY_BINS = 26  # powers of two of a microsecond; the last is "in the wrong order"
_UNTOLD = 200.0  # pairs: measured on crowds of equal lookups, a probability is then the share that is right
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-fA-F]{8,}\b|\d+")  # literals, hashes, numbers
_QUERY = re.compile(r"^(\S+ /[^?\s]*)\?\S*")  # of an HTTP operation
TRACE_HEADERS = (
    "x-request-id", "traceparent", "b3", "x-b3-traceid", "uber-trace-id", "x-amzn-trace-id", "x-cloud-trace-context", "x-correlation-id",
)  # fmt: skip
_TRACE_PART = {  # where a header says more than which trace it is: W3C Trace Context, B3's single header, Jaeger, AWS, Google Cloud
    "traceparent": re.compile("^[^-]+-([^-]+)"),
    "b3": re.compile("^([^-]+)-"),
    "uber-trace-id": re.compile("^([^:]+)"),
    "x-amzn-trace-id": re.compile("Root=([^;]+)"),
    "x-cloud-trace-context": re.compile("^([^/]+)"),
}


def codes(ours: Iterable[str | None], theirs: Iterable[str | None]) -> tuple[Array, Array]:
    """Texts of calls and of requests as integers (equal where the texts are), -1 for None or empty."""
    numbers: dict[str, int] = {}
    mine, other = ([numbers.setdefault(text, len(numbers)) if text else -1 for text in side] for side in (ours, theirs))
    return np.array(mine, "i8"), np.array(other, "i8")


def agreement(ours: Array, theirs: Array, all_theirs: Array) -> Array:
    """The level of each pair of codes; how rare an agreement is, is counted in `all_theirs`, the codes of all requests."""
    count = np.bincount(all_theirs[all_theirs >= 0], minlength=int(max(ours.max(initial=0), theirs.max(initial=0))) + 1)
    total = max(int(count.sum()), 1)
    often = count[np.maximum(ours, 0)]
    level = np.select([often <= 2, often < 0.1 * total], [RARE, UNCOMMON], COMMON)
    level = np.where(ours == theirs, level, DIFFER)
    return np.where((ours < 0) | (theirs < 0), ABSENT, level)


def passing(name: str, levels: Array, word: str) -> Comparison:
    """A value that a proxy passes on: of the request, or of the response."""
    return Comparison(name, levels, *_PASSES, evidence=(None, None, None, word, word), unknown=ABSENT)


def identifiers(ours: Sequence[Mapping[str, str]], theirs: Sequence[Mapping[str, str]], call: Array, parent: Array) -> Comparison:
    """Trace and request identifiers in headers: W3C Trace Context, B3, X-Request-ID and their kin; the trace's part counts."""
    level = np.zeros(len(call), "i8")
    sent = [(place, header) for place, header in enumerate(TRACE_HEADERS, 2) if any(header in each for each in ours)]
    for place, header in reversed(sent):  # of several that agree the first one is named
        mine, other = codes((_identifier(header, each) for each in ours), (_identifier(header, each) for each in theirs))
        both, equal = (mine[call] >= 0) & (other[parent] >= 0), mine[call] == other[parent]
        level = np.where(both & equal, place, np.where(both, np.maximum(level, 1), level))
    # one that differs says little: many proxies make a new one
    each = 1 / len(TRACE_HEADERS)
    matched, chance = (0.6, 0.1, *(0.3 * each for _ in TRACE_HEADERS)), (0.6, 0.3999, *(0.0001 * each for _ in TRACE_HEADERS))
    return Comparison("identifier", level, matched, chance, evidence=(None, None, *TRACE_HEADERS), unknown=0)


def _identifier(header: str, attributes: Mapping[str, str]) -> str | None:
    """The part of a header that is the same all along a trace; None where it names none (`b3: 0` only says not to sample)."""
    value = attributes.get(header, "")
    part = _TRACE_PART.get(header)
    if part is None:
        return value
    found = part.search(value)
    return found[1] if found else None


def delays(name: str, nanoseconds: Array, known: Array, usual: float) -> Comparison:
    """How long from one to the other, in powers of two of a microsecond; `usual` is the power that is likeliest beforehand."""
    level = np.where(nanoseconds < 0, _DELAY_BINS - 1, _powers(nanoseconds))
    level = np.where(known, level, _DELAY_BINS)
    at = np.arange(_DELAY_BINS - 1)
    shares = []
    for middle, width in ((usual, 4.0), (usual + 3, 5.0)):
        share = np.append(np.exp(-0.5 * ((at - middle) / width) ** 2) + 0.02, 0.3)
        shares.append((*(share / share.sum()).tolist(), 0.0))
    return Comparison(name, level, shares[0], shares[1], worth=40.0, unknown=_DELAY_BINS)


def unlike_chance(name: str, nanoseconds: Array, by_chance: Array) -> Comparison:
    """How long from one to the other (0 and more), where nothing else tells which pairs are true.

    `by_chance` (float64, by power of two of a microsecond) is how often delays occur between what has nothing to do with one another. Pairs
    that are merely believed to be apart do not tell that: if the latest is believed to be the one, the others all look late. And until many
    pairs show otherwise, true ones are like any.
    """
    shares = by_chance + 0.5
    known = tuple((shares / shares.sum()).tolist())
    return Comparison(name, _powers(nanoseconds), known, known, worth=_UNTOLD, chance_known=True)


def counted(nanoseconds: Array) -> Array:
    """How many delays (0 and more) are of each power of two of a microsecond (float64)."""
    return np.bincount(_powers(nanoseconds), minlength=_DELAY_BINS - 1).astype("f8")


def anytime(spans: Array) -> Array:
    """What `counted` says of moments that are as likely at any time of `spans` (ns), one of each, from when each began."""
    edges = np.append(0, 1000 * 2.0 ** np.arange(1, _DELAY_BINS))
    spent = np.diff(np.minimum(spans[:, None], edges).sum(axis=0))
    return np.asarray(spent * len(spans) / max(spent.sum(), 1))


def _powers(nanoseconds: Array) -> Array:
    return np.asarray(np.clip(np.floor(np.log2(np.maximum(nanoseconds, 1000) / 1000)).astype("i8"), 0, _DELAY_BINS - 2))


def nesting(ended: Array, answered: Array, replied: Array) -> Comparison:
    """Whether the call was over before the request was answered (int64 ns, -1 unknown)."""
    unknown = (answered < 0) | (replied < 0)
    level = np.select([unknown, ended <= replied, answered <= replied], [3, 0, 1], 2)
    return Comparison(
        "nesting", level, (0.9, 0.06, 0.01, 0.03), (0.55, 0.1, 0.3, 0.05), evidence=("nesting", "nesting", None, None), unknown=3
    )


def busy_with(context: Array, parents: Array) -> Comparison:
    """Whether the thread that made the call was busy with this request (rows; -1 unknown)."""
    level = np.select([context < 0, context == parents], [2, 0], 1)
    return Comparison("thread", level, (0.9, 0.1, 0.0), (0.1, 0.9, 0.0), evidence=("thread", None, None), unknown=2)


def shared_words(ours: Sequence[str | None], theirs: Sequence[str | None], call: Array, parent: Array) -> Comparison:
    """Words of a call's result that stand in the request's response, weighed by how few responses have them (both blank-separated)."""
    said = [set((each or "").split()) for each in theirs]
    often: dict[str, int] = {}
    for words in said:
        for word in words:
            often[word] = often.get(word, 0) + 1
    bits = {word: float(np.log2(len(said) / count)) for word, count in often.items()}
    mine = [(each or "").split() for each in ours]
    level = np.zeros(len(call), "i8")
    for index, (c, p) in enumerate(zip(call.tolist(), parent.tolist(), strict=True)):
        if mine[c] and said[p]:
            level[index] = 1 + int(np.digitize(sum(bits[word] for word in mine[c] if word in said[p]), [0.5, 3, 6]))
    return Comparison(
        "words",
        level,
        (0.3, 0.1, 0.15, 0.2, 0.25),
        (0.3, 0.53, 0.1, 0.05, 0.02),
        evidence=(None, None, None, "body", "body"),
        unknown=0,
    )


@lru_cache(1 << 14)
def shape(operation: str | None) -> str | None:
    """An operation without what differs from one call to the next: query string, literals, numbers, identifiers."""
    return None if operation is None else _VARIABLE.sub("#", _QUERY.sub(r"\1", operation))


def association(ours: Sequence[str | None], theirs: Sequence[str | None], call: Array, parent: Array) -> Comparison:
    """Of what kind of request each kind of call comes, as the traffic shows it; `ours` and `theirs` are shapes of operations."""
    mine, _ = codes((each or "?" for each in ours), ())
    other, _ = codes((each or "?" for each in theirs), ())
    most = int(other.max(initial=0)) + 1
    kinds, level = np.unique(mine[call] * most + other[parent], return_inverse=True)
    share = np.bincount(level, minlength=len(kinds)) / max(len(level), 1)
    known = tuple(share.tolist())
    return Comparison("kind", level, known, known, worth=8.0, evidence=("kind",) * len(kinds), groups=kinds // most)
