"""What an archive says of itself: its captures and observation points, its parts and files, and what naming asks of all packets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np

from probes import addresses
from probes.capture import CaptureStatistics
from probes.schema import ObservationPoint, Problem, Table
from tracer.archive.packets import VERSION, read_packets
from tracer.bundle_files import ARCHIVE_FILE, LEDGER_FILE, NETLINK, SOCKETS_FILE, BundleError, afresh
from tracer.partitions import Deal
from tracer.surroundings import SENDERS, Glimpse

FORMAT = "hopline archive"
DEAL_FILE = "flows.npz"
ASKED_AT_ONCE = 16
_REMEDY = "what else is there was used; copy the archive again"
_DEALT = (LEDGER_FILE, NETLINK, SOCKETS_FILE)  # evidence by which flows were put together


@dataclass(frozen=True, slots=True)
class PacketFile:
    """One file of packets: where it is in the archive, in which part, how many rows and bytes it has."""

    path: str
    part: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Contents:
    """`captures` go by file name, in order; capture_of_point[i] numbers the one of points[i]. `problems` are those of reading them.

    `evidence` are the other files, by their place in the archive, with their size in bytes.
    """

    bucket_s: int
    parts: int
    captures: dict[str, CaptureStatistics]
    points: list[ObservationPoint]
    capture_of_point: list[int]
    capture_files: list[str]
    problems: list[Problem]
    seen: Glimpse
    evidence: dict[str, int]
    packets: list[PacketFile] = field(default_factory=list)

    def save(self, file: IO[bytes]) -> None:
        """Write all of it to `file`, for `load`."""
        senders = zip(*(self.seen.senders[column.name].tolist() for column in SENDERS.columns), strict=True)
        told = {
            "format": FORMAT, "version": VERSION, "bucket_s": self.bucket_s, "parts": self.parts,
            "captures": {name: asdict(each) for name, each in self.captures.items()}, "points": [asdict(each) for each in self.points],
            "capture_of_point": self.capture_of_point, "capture_files": self.capture_files,
            "problems": [asdict(each) for each in self.problems], "largest_mss": self.seen.mss.tolist(),
            "senders": [[addresses.text(hi, lo), point, time_ns] for hi, lo, point, time_ns in senders],
            "evidence": self.evidence, "packets": [asdict(each) for each in self.packets],
        }  # fmt: skip
        file.write(json.dumps(told, indent=1).encode())

    @classmethod
    def load(cls, content: bytes) -> Contents:
        """What `save` wrote. ValueError where it is not that, with the remedy."""
        try:
            told: dict[str, Any] = json.loads(content)
            if told["format"] == FORMAT and told["version"] == VERSION:
                return cls._of(told)
            known, version = told["format"] == FORMAT, told["version"]
        except (LookupError, TypeError, ValueError):
            known, version = False, None
        if not known:
            raise ValueError("is no archive's, or damaged (copy the archive again)")
        raise ValueError(f"is of version {version}, this hopline reads {VERSION} (use the hopline that wrote it)")

    @classmethod
    def _of(cls, told: dict[str, Any]) -> Contents:
        rows = [(*addresses.parse(text), point, time_ns) for text, point, time_ns in told["senders"]]
        senders = {column.name: np.array([row[at] for row in rows], column.dtype) for at, column in enumerate(SENDERS.columns)}
        captures = {name: CaptureStatistics(**each) for name, each in told["captures"].items()}
        for each in captures.values():
            each.comments = [(frame, text) for frame, text in each.comments]
        return cls(
            told["bucket_s"], told["parts"], captures, [ObservationPoint(**each) for each in told["points"]], told["capture_of_point"],
            told["capture_files"], [Problem(**each) for each in told["problems"]],
            Glimpse(np.array(told["largest_mss"], "u2").reshape(-1, 2), senders), told["evidence"],
            [PacketFile(**each) for each in told["packets"]],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that is whole, or of which it is known what is missing."""

    folder: Path
    contents: Contents
    problems: list[Problem]  # with what is missing

    @property
    def path(self) -> Path:
        """What it says of itself."""
        return self.folder / ARCHIVE_FILE

    @property
    def captures(self) -> list[Path]:
        """What the captures were called; they are not here."""
        return [self.folder / name for name in self.contents.capture_files]

    @property
    def origins(self) -> list[Path]:
        """The capture of each observation point."""
        return [self.folder / point.file for point in self.contents.points]

    def check(self, files: Mapping[str, Sequence[Path]]) -> None:
        """BundleError where `files` has evidence that was not there when flows were dealt out."""
        known = {self.folder / PurePosixPath(name) for name in self.contents.evidence}
        for path in (path for kind in _DEALT for path in files.get(kind, ()) if path not in known):
            why = f"is not what flows were put together by when {self.folder} was made"
            raise BundleError(f"{path} {why} (leave it out, or archive the bundle again with it)")

    def part(self, number: int) -> Table:
        """The observations of one part, in the order of captures and frames. BundleError where they cannot be read."""
        return self._read([each for each in self.contents.packets if each.part == number])

    def packets(self) -> Table:
        """The observations of all parts: as they were before they were archived."""
        return self._read(self.contents.packets)

    def dealt(self) -> Deal:
        """Which part the flows are in that conntrack and sockets tell of. BundleError where that cannot be read."""
        try:
            with (self.folder / DEAL_FILE).open("rb") as file, np.load(file, allow_pickle=False) as found:
                return Deal(found["flows"], found["groups"], self.contents.parts)
        except (OSError, LookupError, ValueError, BadZipFile) as error:
            raise BundleError(f"{self.folder / DEAL_FILE} cannot be read: {error} (copy the archive again)") from None

    def _read(self, files: Sequence[PacketFile]) -> Table:
        folder = afresh(self.folder)
        try:
            return read_packets([folder / each.path for each in files], np.array(self.contents.capture_of_point, "u4"))
        except (OSError, LookupError, ValueError) as error:
            raise BundleError(f"{self.folder}: packets cannot be read: {error} (copy the archive again)") from None


def save_deal(dealt: Deal, file: IO[bytes]) -> None:
    """Write `dealt` to `file`, which an archive has as DEAL_FILE."""
    np.savez_compressed(file, allow_pickle=False, flows=dealt.flows, groups=dealt.groups)


def open_archive(folder: Path) -> Archive:
    """The archive in `folder`. BundleError where it says nothing of itself that can be read."""
    path = folder / ARCHIVE_FILE
    try:
        contents = Contents.load(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror} (check its permissions)") from None
    except ValueError as error:
        raise BundleError(f"{path} {error}") from None
    expected = {each.path: each.size_bytes for each in contents.packets} | contents.evidence
    with ThreadPoolExecutor(ASKED_AT_ONCE) as asking:  # an object store takes its time for each
        found = asking.map(lambda name, size: _lacks(folder / PurePosixPath(name), size), expected, expected.values())
        lacking = {name: why for name, why in zip(expected, found, strict=True) if why is not None}
    problems = [Problem(str(folder / PurePosixPath(name)), why, _REMEDY, None, "error") for name, why in lacking.items()]
    there = [each for each in contents.packets if each.path not in lacking]
    return Archive(folder, replace(contents, packets=there), [*contents.problems, *problems])


def _lacks(path: Path, size_bytes: int) -> str | None:
    try:
        found = path.stat().st_size
    except OSError:
        return "is not there"
    return None if found == size_bytes else f"has {found:,} of {size_bytes:,} bytes"
