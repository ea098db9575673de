"""Which records to show: a row per filter, all must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from analysis.records import Record
from probes.addresses import parse
from probes.addresses import text as text_of

Test = Callable[[Record], bool]
MAX_SECONDS = 9_000_000_000  # what 64 bits of nanoseconds hold


@dataclass(frozen=True, slots=True)
class Filters:
    """What the user asked for; None asks nothing. Names are `name` or `namespace/name`, and a trailing `*` matches any rest."""

    pod: str | None = None
    service: str | None = None
    node: str | None = None
    address: str | None = None
    port: int | None = None
    protocol: str | None = None
    status: str | None = None
    operation: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def accept(self, record: Record) -> bool:
        """Whether `record` is one of those asked for."""
        return all(test(record) for test in self.tests())

    def tests(self) -> list[Test]:
        """A test for each thing that was asked for."""
        address = _canonical(self.address)
        asked: list[tuple[object, Test]] = [
            (
                self.pod,
                lambda r: any(e and e["kind"] == "pod" and fits(self.pod, e["namespace"], e["name"]) for e in (r["client"], r["server"])),
            ),
            (self.service, lambda r: bool(r["service"] and fits(self.service, r["service"]["namespace"], r["service"]["name"]))),
            (self.node, lambda r: self.node in {hop["node"] for hop in r["hops"]}),
            (self.address, lambda r: any(end.rpartition(":")[0].strip("[]") == address for end in _ends(r))),
            (self.port, lambda r: any(end.rpartition(":")[2] == str(self.port) for end in _ends(r))),
            (
                self.protocol,
                lambda r: self.protocol in {r["protocol"], *(r[name]["proto"] for name in ("original", "translated") if r[name])},
            ),
            (self.status, lambda r: fits(self.status, None, r["status"])),
            (self.operation, lambda r: fits(self.operation, None, r["operation"])),
            (self.since_ns, lambda r: bool(r["end_ns"] >= (self.since_ns or 0))),
            (self.until_ns, lambda r: bool(r["start_ns"] <= (self.until_ns or 0))),
        ]
        return [test for value, test in asked if value is not None]


def fits(pattern: str | None, namespace: str | None, name: str | None) -> bool:
    """Whether `namespace/name` is what `pattern` (`name`, `namespace/name`, either with a trailing `*`) means."""
    whole, text = f"{namespace}/{name}", pattern or ""
    if text.endswith("*"):
        return whole.startswith(text[:-1]) or (name or "").startswith(text[:-1])
    return text in (whole, name)


def _canonical(address: str | None) -> str | None:
    """An address as records have it, whichever way the user wrote it; what is no address stays as it is and fits nothing."""
    try:
        return None if address is None else text_of(*parse(address.strip("[]")))
    except ValueError:
        return address


def _ends(record: Record) -> set[str]:
    tuples = [record[name] for name in ("original", "translated") if record[name]]
    return {each[side] for each in [*tuples, *record["hops"]] for side in ("src", "dst")}


def _nanoseconds(seconds: str) -> int:
    try:
        value = Decimal(seconds)  # exact: a float of today's epoch seconds is 0.2 µs coarse
    except InvalidOperation:
        raise ValueError(seconds) from None
    if not value.is_finite() or abs(value) > MAX_SECONDS:
        raise ValueError(seconds)
    return round(value * 1_000_000_000)


def moment(text: str, first_ns: int) -> int:
    """A time of the user's in ns: `+1.5` is seconds after the first packet, else ISO 8601 (UTC where it names no zone) or epoch seconds.

    ValueError where `text` is none of these.
    """
    if text.startswith("+"):
        return first_ns + _nanoseconds(text[1:])
    try:
        return _nanoseconds(text)
    except ValueError:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return int(when.timestamp()) * 1_000_000_000 + when.microsecond * 1000
