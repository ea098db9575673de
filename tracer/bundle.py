"""A bundle of evidence: which files there are, whose they are, and what they say.

Reading only: nothing in the folder is ever changed. A file that cannot be read is one line in `problems`; everything else is used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, TypeVar

from probes.accounts import read_account
from probes.capture import CaptureStatistics
from probes.capture.reader import merge_captures
from probes.conntrack import read_ledger, read_netlink
from probes.decode.link import ALL_INTERFACES
from probes.drops import Drops, read_drops
from probes.links import Link, read_links
from probes.natpath import NatPath, read_natpath
from probes.schema import LEDGER, OBSERVATIONS, ObservationPoint, Problem, Table
from probes.sockets import Sockets, read_sockets
from probes.threads import USES, read_uses
from tracer.bundle_files import (
    ACCOUNT,
    ARCHIVE,
    CAPTURE,
    CLUSTER,
    DROPS_FILE,
    LEDGER_FILE,
    LINKS,
    NATPATH_FILE,
    NETLINK,
    RULES,
    SETTINGS,
    SOCKETS_FILE,
    STANDARD_INPUT,
    THREADS_FILE,
    BundleError,
    CaptureFile,
    find_files,
    folders_of,
    kind_of,
    node_of,
    unopened,
    unpack,
)  # fmt: skip
from tracer.captures import READERS, read_captures
from tracer.cluster import Timeline, read_cluster
from tracer.kept import again
from tracer.rules import ProxyRules, read_rules

if TYPE_CHECKING:
    from tracer.archive import Archive

_INTERFACE_NAME = re.compile(r"(?!pcap|cap$|ntar)[A-Za-z]")  # `node-a.eth0.pcap`; not the number or time of a capture that rotates

_Read = TypeVar("_Read")


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


class _Reading:
    """Reads the files of a bundle and gathers what cannot be read."""

    def __init__(self, files: dict[str, list[Path]], folders: frozenset[Path]) -> None:
        self.files, self.folders = files, folders
        self.problems: list[Problem] = []
        self.nodes = self._settings()

    def _settings(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for path in self.files.get(SETTINGS, []):
            try:
                content = tomllib.loads(path.read_text())
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                self.problems.append(Problem(str(path), f"cannot be read: {error}", "node names are taken from file names", None, "error"))
                continue
            names |= {str(file): str(node) for file, node in content.get("nodes", {}).items()}
        return names

    def by_node(self, kind: str) -> Iterable[tuple[str, Path, bytes]]:
        for path in self.files.get(kind, []):
            content, problems = _content(path)
            self.problems += problems
            if content is not None:
                yield node_of(path, self.nodes, self.folders), path, content

    def captures(self) -> list[CaptureFile]:
        """All captures, those with equal content once, in the order of node and file name."""
        paths = sorted(self._distinct(), key=lambda path: (node_of(path, self.nodes, self.folders), path.name, str(path)))
        names = ("standard input" if path == STANDARD_INPUT else path.name for path in paths)
        return [CaptureFile(path, name, node_of(path, self.nodes, self.folders)) for path, name in zip(paths, names, strict=True)]

    def _distinct(self) -> Iterable[Path]:
        sizes: dict[int, list[Path]] = {}
        for path in self.files[CAPTURE]:
            size = path.stat().st_size if path.is_file() else -1 - len(sizes)
            sizes.setdefault(size, []).append(path)
        for paths in sizes.values():
            seen: dict[bytes, Path] = {}
            for path in sorted(paths, key=lambda path: (len(path.name), path)):  # a copy's name is the longer one
                digest = b"" if len(paths) == 1 or not path.is_file() else _digest(path)
                if digest and digest in seen:
                    what = f"has the same content as {seen[digest].name}"
                    self.problems.append(Problem(str(path), what, "it was read once; remove the copy", None, "note"))
                    continue
                seen[digest] = path
                yield path

    def ledgers(self, meanwhile: Callable[[], None]) -> dict[str, Table]:
        tables: dict[str, list[Table]] = {}

        def read(path: Path) -> tuple[Table | None, list[Problem]]:
            content, problems = _content(path)
            if content is None:
                return None, problems
            table, told = read_ledger(content, path.name)
            return table, [*problems, *told]

        paths = self.files.get(LEDGER_FILE, [])
        with ThreadPoolExecutor(READERS) as readers:
            being_read = readers.map(read, paths)
            meanwhile()
            for path, (table, problems) in zip(paths, being_read, strict=True):
                self.problems += problems
                if table is not None:
                    tables.setdefault(node_of(path, self.nodes, self.folders), []).append(table)
        for path in self.files.get(NETLINK, []):  # may be large: never in memory as a whole
            try:
                with path.open("rb") as stream:
                    table, problems = read_netlink(stream, path.name)
            except OSError as error:
                self.problems.append(unopened(path, error))
                continue
            self.problems += problems
            tables.setdefault(node_of(path, self.nodes, self.folders), []).append(table)
        return {node: LEDGER.concat(each) for node, each in tables.items()}

    def joined(self, kind: str, read: Callable[[bytes, str], tuple[_Read, list[Problem]]]) -> dict[str, _Read]:
        """What `read` makes of each node's files of JSON lines, one behind the other."""
        contents: dict[str, bytes] = {}
        for node, _, content in self.by_node(kind):
            contents[node] = contents.get(node, b"") + content
        found = {}
        for node, content in contents.items():
            found[node], problems = read(content, f"{node}.{kind}.jsonl")
            self.problems += problems
        return found

    def uses(self) -> dict[str, Table]:
        tables: dict[str, list[Table]] = {}
        for node, path, content in self.by_node(THREADS_FILE):
            table, problems = read_uses(content, path.name)
            self.problems += problems
            tables.setdefault(node, []).append(table)
        return {node: USES.concat(each) for node, each in tables.items()}

    def rules(self) -> dict[str, ProxyRules]:
        dumps: dict[str, dict[str, str]] = {}
        for node, path, content in self.by_node(RULES):
            kind = path.name.removesuffix(path.suffix if path.suffix in (".gz", ".zst") else "").split(".")[-2]
            dumps.setdefault(node, {})[kind] = content.decode(errors="replace")
        found = {}
        for node, dump in dumps.items():
            found[node], problems = read_rules(dump, node)
            self.problems += problems
        return found


def _content(path: Path) -> tuple[bytes | None, list[Problem]]:
    """What a file has, unpacked; None where it cannot be read."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        return None, [unopened(path, error)]
    content = unpack(packed)
    damaged = Problem(str(path), "its compressed content is damaged", "it was left out; copy it again", 0, "error")
    return content, [damaged] if packed and not content else []


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest()
    except OSError:
        return b""


def _named(points: Sequence[ObservationPoint], links: dict[str, dict[int, Link]]) -> list[ObservationPoint]:
    """`points` with the interface names that links files know, or that a capture of one interface is called by (`node-a.eth0.pcap`)."""
    named = []
    for point in points:
        link = links.get(point.node, {}).get(point.ifindex) if point.ifindex >= 0 else None
        middle = point.file.split(".")[1:-1]
        if link:
            named.append(replace(point, interface=link.name))
        elif point.interface == "any" and point.link_type not in ALL_INTERFACES and middle and _INTERFACE_NAME.match(middle[0]):
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
    reading = _Reading(files, folders)
    captures = [] if archive else reading.captures()
    links = {node: read_links(content) for node, _, content in reading.by_node(LINKS)}
    timeline, problems = read_cluster(files[CLUSTER]) if use_cluster else (Timeline(), [])
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
