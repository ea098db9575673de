"""Which files a bundle has: what each is by its name, whose it is, and what it holds once unpacked."""

from __future__ import annotations

import contextlib
import pickle
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from probes.schema import Problem

CAPTURE, LEDGER_FILE, NETLINK, LINKS, RULES, CLUSTER, SETTINGS = "capture", "ledger", "netlink", "links", "rules", "cluster", "settings"
ACCOUNT, ARCHIVE = "account", "archive"
SOCKETS_FILE, THREADS_FILE, DROPS_FILE, NATPATH_FILE = "sockets", "threads", "drops", "natpath"
STANDARD_INPUT = Path("-")
ARCHIVE_FILE = "archive.json"  # makes a folder an archive
UNFINISHED_FILE = "archive.unfinished.json"  # until it is one

_PACKED = r"(\.gz|\.zst)?$"
CAPTURE_SUFFIX = r"\.(pcap|pcapng|cap|ntar)\d*" + _PACKED
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (  # the first that fits a file's name tells what it is
    (NETLINK, re.compile(r".*\.conntrack[^.]*\.pcap(ng)?" + _PACKED)),
    (CAPTURE, re.compile(".*" + CAPTURE_SUFFIX)),
    (LEDGER_FILE, re.compile(r".*\.conntrack[^.]*\.(txt|jsonl)" + _PACKED)),
    (SOCKETS_FILE, re.compile(r".*\.sockets\.jsonl" + _PACKED)),
    (THREADS_FILE, re.compile(r".*\.threads\.jsonl" + _PACKED)),
    (DROPS_FILE, re.compile(r".*\.drops\.jsonl" + _PACKED)),
    (NATPATH_FILE, re.compile(r".*\.natpath\.jsonl" + _PACKED)),
    (LINKS, re.compile(r".*\.links\.(txt|json)" + _PACKED)),
    (RULES, re.compile(r".*\.(iptables-save|ip6tables-save|nft-ruleset|ipvsadm-save|ipset-save)\.txt" + _PACKED)),
    (CLUSTER, re.compile(r"(cluster[^/]*\.(json|ya?ml)|watch[^/]*\.jsonl)" + _PACKED)),
    (ACCOUNT, re.compile(r".*\.recording\.json$")),
    (SETTINGS, re.compile(r"bundle\.toml$")),
    (ARCHIVE, re.compile(re.escape(ARCHIVE_FILE) + "$")),
)
_CAPTURE_MAGICS = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
HEAD_BYTES = 1 << 16  # of a file whose name does not tell what it is


class BundleError(Exception):
    """There is nothing to work on; the message names the path and the remedy."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A capture that is still to be read: where it is, what it is called, whose packets it has."""

    path: Path
    name: str
    node: str

    def open(self) -> BinaryIO:
        """Its bytes; OSError where that cannot be."""
        return self.path.open("rb")


def afresh(path: Path) -> Path:
    """`path` for a process that was forked: what fsspec opened before cannot be used there."""
    return path if type(path) is type(Path()) else cast("Path", pickle.loads(pickle.dumps(path)))  # noqa: S301 - our own


def kind_of(path: Path) -> str | None:
    """What a file is by its name, None where its name does not tell."""
    return next((kind for kind, pattern in KINDS if pattern.match(path.name)), None)


def _kind_by_content(path: Path) -> str:
    if not path.is_file():
        return CAPTURE  # a pipe gives its beginning once
    with contextlib.suppress(OSError), path.open("rb") as file:  # whoever reads it will say why that cannot be
        return _kind_of_beginning(unpack(file.read(HEAD_BYTES)).lstrip()[:4096])
    return CAPTURE


def _kind_of_beginning(head: bytes) -> str:
    if head[:4] in _CAPTURE_MAGICS:
        return CAPTURE
    if b"src=" in head and b"dst=" in head:
        return LEDGER_FILE
    return CLUSTER if head[:1] == b"{" or b"apiVersion:" in head else CAPTURE


def find_files(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by kind: those in the folders of `paths` that their names tell, and every file given by itself.

    BundleError where there is no capture, nor an archive that stands for several.
    """
    found: dict[str, list[Path]] = {}
    for path in (each.parent if each.name == ARCHIVE_FILE else each for each in paths):
        if path == STANDARD_INPUT:
            found.setdefault(CAPTURE, []).append(path)
        elif path.is_dir():
            # a link to nowhere is kept: reading it fails, and is said
            inside = sorted(each for each in [*path.iterdir(), *path.glob("*/*")] if each.is_file() or not each.exists())
            for each in inside:
                known = kind_of(each)
                if known:
                    found.setdefault(known, []).append(each)
        elif path.exists():
            found.setdefault(kind_of(path) or _kind_by_content(path), []).append(path)
        else:
            raise BundleError(f"{path}: no such file or folder (give a bundle folder, or captures by name)")
    names = ", ".join(str(path) for path in paths)
    if len(found.get(ARCHIVE, [])) + (CAPTURE in found) > 1:
        raise BundleError(f"{names}: an archive is read by itself (leave the others out, or archive all of them together)")
    if CAPTURE not in found and ARCHIVE not in found:
        if any((path / UNFINISHED_FILE).exists() for path in paths):
            raise BundleError(f"{names}: an archive that is not finished (run the `hopline archive` that was interrupted again)")
        raise BundleError(f"{names}: no captures found (expected files such as node-a.pcap, node-a.pcapng.gz or node-a/*.pcapng)")
    return found


def folders_of(paths: Sequence[Path]) -> frozenset[Path]:
    """The folders that `paths` are, or are in."""
    return frozenset(path if path.is_dir() else path.parent for path in paths if path != STANDARD_INPUT)


def node_of(path: Path, settings: dict[str, str], folders: frozenset[Path], nodes: Iterable[str] = ()) -> str:
    """Whose file this is: its name's first part, or its folder's name where that is inside the bundle; `bundle.toml` may rename either.

    Of `nodes`, which are known, the one that the name begins with (`node-a-eth0.pcap`, `ip-10-0-3-17.ec2.internal.pcap`), or that begins
    with the name's first part (`ip-10-0-3-17.pcap`).
    """
    if path == STANDARD_INPUT:
        return settings.get("-", "stdin")
    inside = path.parent not in folders and path.parent.parent in folders
    whole = path.parent.name if inside else path.name
    name = whole if inside else whole.split(".", 1)[0]
    if name in settings:
        return settings[name]
    begun = [node for node in nodes if whole.startswith(node) and not whole[len(node) :][:1].isalnum()]
    longer = [node for node in nodes if node.startswith(f"{name}.")]
    return max(begun, key=len) if begun else longer[0] if len(longer) == 1 else name


def unpack(content: bytes) -> bytes:
    """Decompressed content; of a cut stream what could be decompressed."""
    if content[:2] == b"\x1f\x8b":
        engine = zlib.decompressobj(wbits=31)
    elif content[:4] == b"\x28\xb5\x2f\xfd":
        engine = zstandard.ZstdDecompressor().decompressobj()  # type: ignore[assignment]  # the same two methods
    else:
        return content
    try:
        return engine.decompress(content)
    except (zlib.error, zstandard.ZstdError):
        return b""


def unopened(path: Path, error: OSError) -> Problem:
    """What is said of a file that cannot be opened."""
    return Problem(str(path), f"cannot be read: {error.strerror}", "it was left out; check its permissions", None, "error")
