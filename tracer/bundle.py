"""A bundle of evidence: which files there are, whose they are, and what they say.

Reading only: nothing in the folder is ever changed. A file that cannot be read is one line in `problems`; everything else is used.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from probes.accounts import read_account
from probes.capture import CaptureStatistics
from probes.capture.reader import merge_captures
from probes.decode.link import ALL_INTERFACES
from probes.drops import Drops, read_drops
from probes.links import Link, read_links
from probes.natpath import NatPath, read_natpath
from probes.schema import OBSERVATIONS, ObservationPoint, Problem, Table
from probes.sockets import Sockets, read_sockets
from tracer.bundle_files import (
    ACCOUNT,
    ARCHIVE,
    CAPTURE,
    CAPTURE_SUFFIX,
    CLUSTER,
    DROPS_FILE,
    LINKS,
    NATPATH_FILE,
    SOCKETS_FILE,
    STANDARD_INPUT,
    BundleError,
    CaptureFile,
    find_files,
    folders_of,
    kind_of,
)  # fmt: skip
from tracer.bundle_reading import Reading
from tracer.captures import read_captures
from tracer.cluster import Timeline, read_cluster
from tracer.kept import again

if TYPE_CHECKING:
    from tracer.archive import Archive
    from tracer.rules import ProxyRules

_INTERFACE_NAME = re.compile(r"(?!pcap|cap$|ntar)[A-Za-z]")  # `node-a.eth0.pcap`; not the number or time of a capture that rotates


@dataclass(slots=True)
class Bundle:
    """All evidence of a run. `points` are numbered as `observations.point` has them; `rules` and `links` go by node name."""

    observations: Table
    points: list[ObservationPoint]
    captures: dict[str, CaptureStatistics]
    ledgers: dict[str, Table]
    links: dict[str, dict[int, Link]]
    rules: dict[str, ProxyRules]
    timeline: Timeline
    files: dict[str, list[Path]]
    origins: list[Path]  # the capture file of each of `points`
    kept: IO[bytes] | None = None  # what came from standard input, where it is to be read a second time
    problems: list[Problem] = field(default_factory=list)
    sockets: dict[str, Sockets] = field(default_factory=dict)
    uses: dict[str, Table] = field(default_factory=dict)
    drops: dict[str, Drops] = field(default_factory=dict)
    natpaths: dict[str, NatPath] = field(default_factory=dict)
    has_payload: bool = True  # False where packets come from an archive, which keeps none


def _named(points: Sequence[ObservationPoint], links: dict[str, dict[int, Link]]) -> list[ObservationPoint]:
    """`points` with the interface names that links files know, or that a capture of one interface is called by.

    `node-a.eth0.pcap`; where links files have that interface, `node-a-eth0.pcap` and `node-a/eth0.pcap` too.
    """
    named = []
    for point in points:
        link = links.get(point.node, {}).get(point.ifindex) if point.ifindex >= 0 else None
        middle, called = point.file.split(".")[1:-1], re.sub(CAPTURE_SUFFIX, "", point.file.removeprefix(point.node)).lstrip(".-_")
        if link:
            named.append(replace(point, interface=link.name))
        elif point.interface != "any" or point.link_type in ALL_INTERFACES:
            named.append(point)
        elif any(each.name == called for each in links.get(point.node, {}).values()):
            named.append(replace(point, interface=called))
        elif middle and _INTERFACE_NAME.match(middle[0]):
            named.append(replace(point, interface=middle[0]))
        else:
            named.append(point)
    return named


@dataclass(slots=True)
class Opened:
    """A bundle but for its packets, and the captures that have them, in order. `later` are problems that are told after the captures'."""

    bundle: Bundle
    captures: list[CaptureFile]
    later: list[Problem]
    archive: Archive | None = None  # has the packets instead of captures

    def stream(self, capture: CaptureFile) -> BinaryIO:
        """The bytes of `capture`; OSError where it cannot be opened."""
        if capture.path != STANDARD_INPUT:
            return capture.open()
        kept = self.bundle.kept
        if kept is None:
            return sys.stdin.buffer
        if not kept.seek(0, os.SEEK_END):
            shutil.copyfileobj(sys.stdin.buffer, kept, 1 << 20)
            kept.flush()
        return again(kept)

    def complete(
        self,
        observations: Table,
        points: Sequence[ObservationPoint],
        origins: Sequence[Path],
        statistics: dict[str, CaptureStatistics],
        problems: Sequence[Problem],
    ) -> Bundle:
        """The bundle with what its captures gave: `origins` has the file of each of `points`."""
        return replace(
            self.bundle, observations=OBSERVATIONS.check(observations), points=_named(points, self.bundle.links), captures=statistics,
            origins=list(origins), problems=[*self.bundle.problems, *problems, *self.later],
        )  # fmt: skip

    def archived(self, archive: Archive, observations: Table) -> Bundle:
        """The bundle with `observations` of the archive that it is."""
        contents = archive.contents
        return self.complete(observations, contents.points, archive.origins, contents.captures, archive.problems)


def open_bundle(
    paths: Sequence[Path],
    cluster: Sequence[Path] = (),
    *,
    use_ledger: bool = True,
    use_rules: bool = True,
    use_cluster: bool = True,
    keep_input: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Opened:
    """Find a bundle's files, and read all but the captures; arguments and errors as in `read_bundle`.

    `meanwhile` is called while other threads read ledgers, which hold no lock of Python's.
    """
    files = find_files(paths)
    archive = _archive(files)
    pipe = next((path for path in files[CAPTURE] if path != STANDARD_INPUT and path.exists() and not path.is_file()), None)
    if keep_input and pipe:
        raise BundleError(f"{pipe}: a pipe can be read once, and requests need packets twice (… | hopline trace -, or --l4-only)")
    files.setdefault(CLUSTER, []).extend(cluster)
    folders = folders_of(paths)
    kept = tempfile.TemporaryFile(prefix="hopline-") if keep_input and STANDARD_INPUT in files[CAPTURE] else None  # noqa: SIM115 - the bundle's
    timeline, problems = read_cluster(files[CLUSTER]) if use_cluster else (Timeline(), [])
    reading = Reading(files, folders, timeline.nodes)
    captures = [] if archive else reading.captures()
    links = {node: read_links(content) for node, _, content in reading.by_node(LINKS)}
    for node, known in links.items():
        for link in known.values():
            for address in () if link.loopback else link.addresses:
                timeline.add_node_address(node, address)
    ledgers = reading.ledgers(meanwhile) if use_ledger else {}
    rules = reading.rules() if use_rules else {}
    sockets, uses = reading.joined(SOCKETS_FILE, read_sockets), reading.uses()
    drops, natpaths = reading.joined(DROPS_FILE, read_drops), reading.joined(NATPATH_FILE, read_natpath)
    accounts = [problem for _, path, content in reading.by_node(ACCOUNT) for problem in read_account(content, path.name)]
    bundle = Bundle(
        OBSERVATIONS.empty(), [], {}, ledgers, links, rules, timeline, files, [], kept, reading.problems, sockets, uses, drops, natpaths,
        archive is None,
    )  # fmt: skip
    return Opened(bundle, captures, [*accounts, *problems], archive)


def _archive(files: dict[str, list[Path]]) -> Archive | None:
    """The archive that is among `files`, where captures then take its place."""
    if ARCHIVE not in files:
        return None
    from tracer.archive import open_archive  # noqa: PLC0415 - Parquet is slow to load

    (path,) = files.pop(ARCHIVE)
    archive = open_archive(path.parent)
    archive.check(files)
    files[CAPTURE] = archive.captures
    return archive


def read_bundle(
    paths: Sequence[Path],
    cluster: Sequence[Path] = (),
    *,
    use_ledger: bool = True,
    use_rules: bool = True,
    use_cluster: bool = True,
    keep_input: bool = False,
    progress: Callable[[str, int], None] = lambda _file, _position: None,
) -> Bundle:
    """Read a bundle: folders, or files by themselves ("-" is a capture on standard input), and `cluster` metadata beside them.

    The `use_…` switches leave evidence out. `keep_input` keeps what comes from standard input (in a temporary file), for those who need
    payloads afterwards. `progress` is called with a capture's path and the position in its decompressed bytes.
    BundleError where there is no capture at all.
    """
    return read_packets(
        open_bundle(paths, cluster, use_ledger=use_ledger, use_rules=use_rules, use_cluster=use_cluster, keep_input=keep_input), progress
    )


def read_packets(opened: Opened, progress: Callable[[str, int], None] = lambda _file, _position: None) -> Bundle:
    """Read all captures of a bundle into memory, into one table."""
    if opened.archive is not None:
        return opened.archived(opened.archive, opened.archive.packets())
    packets = read_captures(opened, progress)
    observations, _ = merge_captures(packets.captures)
    return packets.complete(opened, observations)


__all__ = ["Bundle", "BundleError", "CaptureFile", "Opened", "find_files", "kind_of", "open_bundle", "read_bundle", "read_packets"]
