"""Reads the files of a bundle, all but its captures: whose they are, and what they say."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from probes.capture.pcap import HEADER_BYTES
from probes.conntrack import read_ledger, read_netlink
from probes.schema import LEDGER, Problem, Table
from probes.threads import USES, read_uses
from tracer.bundle_files import (
    CAPTURE,
    LEDGER_FILE,
    NETLINK,
    RULES,
    SETTINGS,
    STANDARD_INPUT,
    THREADS_FILE,
    CaptureFile,
    node_of,
    unopened,
    unpack,
)
from tracer.captures import READERS

if TYPE_CHECKING:
    from tracer.rules import ProxyRules

_Read = TypeVar("_Read")


class Reading:
    """Reads the files of a bundle and gathers what cannot be read."""

    def __init__(self, files: dict[str, list[Path]], folders: frozenset[Path], nodes: Sequence[str] = ()) -> None:
        self.files, self.folders, self.nodes = files, folders, nodes
        self.problems: list[Problem] = []
        self.renamed = self._settings()

    def node_of(self, path: Path) -> str:
        """Whose file this is."""
        return node_of(path, self.renamed, self.folders, self.nodes)

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
        """The node, path and unpacked content of each file of this kind that can be read."""
        for path in self.files.get(kind, []):
            content, problems = _content(path)
            self.problems += problems
            if content is not None:
                yield self.node_of(path), path, content

    def captures(self) -> list[CaptureFile]:
        """All captures, those with equal content once, in the order of node and file name."""
        paths = sorted(self._distinct(), key=lambda path: (self.node_of(path), path.name, str(path)))
        names = ("standard input" if path == STANDARD_INPUT else path.name for path in paths)
        return [CaptureFile(path, name, self.node_of(path)) for path, name in zip(paths, names, strict=True)]

    def _distinct(self) -> Iterable[Path]:
        sizes: dict[int, list[Path]] = {}
        for path in self.files[CAPTURE]:
            size = path.stat().st_size if path.is_file() else -1 - len(sizes)
            sizes.setdefault(size, []).append(path)
        for size, paths in sizes.items():
            seen: dict[bytes, Path] = {}
            for path in sorted(paths, key=lambda path: (len(path.name), path)):  # a copy's name is the longer one
                digest = b"" if len(paths) == 1 or size <= HEADER_BYTES else _digest(path)  # a pcap file without a packet is like any other
                if digest and digest in seen:
                    what = f"has the same content as {seen[digest].name}"
                    self.problems.append(Problem(str(path), what, "it was read once; remove the copy", None, "note"))
                    continue
                seen[digest] = path
                yield path

    def ledgers(self, meanwhile: Callable[[], None]) -> dict[str, Table]:
        """What each node's conntrack told. `meanwhile` is called while other threads read lines, which hold no lock of Python's."""
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
                    tables.setdefault(self.node_of(path), []).append(table)
        for path in self.files.get(NETLINK, []):  # may be large: never in memory as a whole
            try:
                with path.open("rb") as stream:
                    table, problems = read_netlink(stream, path.name)
            except OSError as error:
                self.problems.append(unopened(path, error))
                continue
            self.problems += problems
            tables.setdefault(self.node_of(path), []).append(table)
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
        """What each node's threads did with sockets."""
        tables: dict[str, list[Table]] = {}
        for node, path, content in self.by_node(THREADS_FILE):
            table, problems = read_uses(content, path.name)
            self.problems += problems
            tables.setdefault(node, []).append(table)
        return {node: USES.concat(each) for node, each in tables.items()}

    def rules(self) -> dict[str, ProxyRules]:
        """The rules of each node's kube-proxy."""
        dumps: dict[str, dict[str, str]] = {}
        for node, path, content in self.by_node(RULES):
            kind = path.name.removesuffix(path.suffix if path.suffix in (".gz", ".zst") else "").split(".")[-2]
            dumps.setdefault(node, {})[kind] = content.decode(errors="replace")
        if not dumps:
            return {}
        from tracer.rules import read_rules  # noqa: PLC0415 - what it looks for takes a while to put together

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
