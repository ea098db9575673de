"""BTF, the kernel's description of its own types: bytes in, types out (Documentation/bpf/btf.rst)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MAGIC = 0xEB9F
VOID = 0  # the type id of `void`
# Kinds by number, in the words of include/uapi/linux/btf.h; and the 32-bit words that follow a type: fixed ones, and ones per member.
KINDS = (
    "void", "int", "ptr", "array", "struct", "union", "enum", "fwd", "typedef", "volatile", "const", "restrict", "func", "func_proto",
    "var", "datasec", "float", "decl_tag", "type_tag", "enum64",
)  # fmt: skip
FIXED_WORDS = np.array([0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0])
WORDS_EACH = np.array([0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3])
WRAPPERS = frozenset({"typedef", "volatile", "const", "restrict", "type_tag"})
_DEEPEST = 64  # wrappers around a type: more is a circle


class BtfError(ValueError):
    """BTF that is damaged, or has no such type; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a struct or union. `bits` is 0 unless it is a bitfield. `name` is empty for an anonymous struct or union."""

    name: str
    type_id: int
    bit_offset: int
    bits: int


@dataclass(frozen=True, slots=True)
class Type:
    """One type. `size_bytes` is of int, struct, union, enum, float; `target` is what the others lead to, or an array's element."""

    kind: str
    name: str
    size_bytes: int = 0
    target: int = VOID
    signed: bool = False
    boolean: bool = False
    length: int = 0
    members: tuple[Member, ...] = ()  # a function's parameters
    constants: tuple[tuple[str, int], ...] = ()


class Btf:
    """The types of a kernel, or with `base` of a module: its own types and strings continue the kernel's."""

    def __init__(self, content: bytes, name: str, base: Btf | None = None) -> None:
        """`name` is for messages. BtfError where `content` is not whole BTF of this byte order."""
        self._name, self._base = name, base
        if len(content) < 24:
            raise self._damaged(f"{len(content)} bytes are no BTF header")
        head = np.frombuffer(content, "<u4", 6)
        if int(head[0]) & 0xFFFF != MAGIC:
            raise self._damaged(f"it starts with {content[:4].hex()}, not with BTF's little-endian magic")
        header_bytes, type_at, type_bytes, string_at, string_bytes = (int(value) for value in head[1:])
        if max(type_at + type_bytes, string_at + string_bytes) + header_bytes > len(content) or type_bytes % 4 or header_bytes % 4:
            raise self._damaged(f"its sections end beyond its {len(content)} bytes")
        self._words = np.frombuffer(content, "<u4", type_bytes // 4, header_bytes + type_at)
        self._strings = content[header_bytes + string_at :][:string_bytes]
        if self._strings[-1:] not in (b"\0", b""):
            raise self._damaged("its last string has no end")
        self._first: int = base.count if base else 1
        self._first_string: int = base.string_bytes if base else 0
        self._starts = self._walk()
        self.count: int = self._first + len(self._starts)
        self.string_bytes: int = self._first_string + len(self._strings)

    def _walk(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Where each type starts, in words. Types follow each other without an index: the step from every word is computed at once."""
        info = self._words[1:].astype(np.int64)
        kinds, members = info >> 24 & 0x1F, info & 0xFFFF
        known = kinds < len(KINDS)
        number = np.where(known, kinds, 0)
        steps = (3 + FIXED_WORDS[number] + WORDS_EACH[number] * members).tolist()
        starts: list[int] = []
        at, end = 0, len(self._words)
        while at < end:
            if at + 3 > end or at + steps[at] > end:
                raise self._damaged(f"type {self._first + len(starts)} at byte {4 * at} of its types is cut")
            if not known[at] or kinds[at] == 0:
                raise self._damaged(f"type {self._first + len(starts)} is of kind {kinds[at]}, which is newer than this reader")
            starts.append(at)
            at += steps[at]
        return np.array(starts, np.int64)

    @cached_property
    def _names(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self._words[self._starts].astype(np.int64)

    def find(self, name: str, kinds: Collection[str]) -> list[int]:
        """The ids of all types of that name and one of those kinds, the kernel's before the module's own."""
        found = self._base.find(name, kinds) if self._base else []
        offsets = self._offsets(name)
        ids = (np.flatnonzero(np.isin(self._names, offsets)) + self._first).tolist() if offsets else []
        return found + [type_id for type_id in ids if self.type(type_id).kind in kinds]

    def _offsets(self, name: str) -> list[int]:
        """Every offset of the string section at which `name` stands, also as the end of a longer string."""
        found = self._base._offsets(name) if self._base else []
        sought = name.encode() + b"\0"
        at = self._strings.find(sought)
        while at >= 0:
            found.append(self._first_string + at)
            at = self._strings.find(sought, at + 1)
        return found

    def string(self, offset: int) -> str:
        """The string at an offset, which counts through the kernel's strings first."""
        if self._base and offset < self._first_string:
            return self._base.string(offset)
        at = offset - self._first_string
        if at >= len(self._strings):
            if offset == 0:
                return ""
            raise self._damaged(f"a name at {offset} lies beyond its {self.string_bytes} bytes of strings")
        return self._strings[at : self._strings.index(b"\0", at)].decode(errors="replace")

    def type(self, type_id: int) -> Type:
        """The type with that id."""
        if type_id == VOID:
            return Type("void", "")
        if self._base and type_id < self._first:
            return self._base.type(type_id)
        if type_id >= self.count:
            raise self._damaged(f"type {type_id} is asked for, its last is {self.count - 1}")
        at = int(self._starts[type_id - self._first])
        name_offset, info, size_or_type = (int(word) for word in self._words[at : at + 3])
        kind, count, flag = KINDS[info >> 24 & 0x1F], info & 0xFFFF, info >> 31
        name = self.string(name_offset)
        rest = self._words[at + 3 :]
        if kind == "int":
            encoding = int(rest[0]) >> 24  # 1 signed, 2 char, 4 bool
            return Type(kind, name, size_or_type, signed=bool(encoding & 1), boolean=bool(encoding & 4))
        if kind == "array":
            return Type(kind, name, target=int(rest[0]), length=int(rest[2]))
        if kind in {"struct", "union"}:
            return Type(kind, name, size_or_type, members=self._members(rest[: 3 * count].tolist(), bool(flag)))
        if kind in {"enum", "enum64"}:
            return Type(kind, name, size_or_type, signed=bool(flag), constants=self._constants(kind, rest, count, bool(flag)))
        if kind in {"float", "fwd", "datasec"}:
            return Type(kind, name, size_or_type)
        parameters = rest[: 2 * count].tolist() if kind == "func_proto" else []
        members = tuple(Member(self.string(at), type_id, 0, 0) for at, type_id in zip(parameters[::2], parameters[1::2], strict=True))
        return Type(kind, name, target=size_or_type, members=members)

    def _members(self, words: list[int], with_bits: bool) -> tuple[Member, ...]:
        return tuple(
            Member(self.string(name), type_id, offset & 0xFFFFFF if with_bits else offset, offset >> 24 if with_bits else 0)
            for name, type_id, offset in zip(words[::3], words[1::3], words[2::3], strict=True)
        )

    def _constants(
        self, kind: str, rest: np.ndarray[tuple[int], np.dtype[np.uint32]], count: int, signed: bool
    ) -> tuple[tuple[str, int], ...]:
        width = 3 if kind == "enum64" else 2
        table = rest[: width * count].reshape(count, width).astype(np.uint64)
        values = table[:, 1] | (table[:, 2] << np.uint64(32)) if width == 3 else table[:, 1].astype(np.uint32)
        as_signed = values.view(np.int64 if width == 3 else np.int32) if signed else values
        return tuple((self.string(int(name)), int(value)) for name, value in zip(table[:, 0], as_signed, strict=True))

    def peel(self, type_id: int) -> int:
        """What is left of a type without its typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            found = self.type(type_id)
            if found.kind not in WRAPPERS:
                return type_id
            type_id = found.target
        raise self._damaged(f"type {type_id} is a typedef of itself")

    def size_bytes(self, type_id: int) -> int:
        """`sizeof`."""
        found = self.type(self.peel(type_id))
        if found.kind == "array":
            return found.length * self.size_bytes(found.target)
        return 8 if found.kind == "ptr" else found.size_bytes

    def _damaged(self, why: str) -> BtfError:
        return BtfError(f"BTF of {self._name}: {why}; read it anew, or boot a kernel whose BTF is whole")
