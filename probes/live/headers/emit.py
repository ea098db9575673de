"""From BTF to C: only the structs, unions, enums, typedefs and fields that are asked for, every field at the kernel's own offset.

A struct is a union of its fields, each behind the bytes before it, so that a field needs no other to be at its place and fields that share
bytes need no order:

    struct sk_buff {
        union {
            struct { char before_dev[16]; struct net_device *dev; } __attribute__((packed));
            struct { char before_len[112]; unsigned int len; } __attribute__((packed));
            char all_of_it[224];
        } __attribute__((packed));
    } __attribute__((packed, aligned(8)));
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from probes.live.headers.btf import Btf, BtfError, Member, Type

# What a C file wants: type -> its fields (or an enum's constants); None: all of them. `field?` may be missing: HAS_type_field tells.
Wanted = Mapping[str, Sequence[str] | None]

_NAMED = ("struct", "union", "enum", "enum64", "typedef")
_RECORDS = frozenset({"struct", "union"})
_ENUMS = frozenset({"enum", "enum64"})
_INTEGERS = {1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128"}


def emit(btfs: Sequence[Btf], wanted: Wanted) -> str:
    """C for everything in `wanted`, each from the first of `btfs` that has it with those fields.

    A struct that is inside a wanted field comes along whole; one that is pointed at is only declared. BtfError where a type or a field is
    not known to this kernel.
    """
    try:
        return "\n".join([*_Writer(btfs, wanted).lines(), ""])
    except RecursionError as error:
        raise BtfError("a type of this BTF is inside itself: it is damaged; read it anew, or boot a kernel whose BTF is whole") from error


class _Writer:
    """Definitions in the order in which C needs them: what is inside a struct before the struct."""

    def __init__(self, btfs: Sequence[Btf], wanted: Wanted) -> None:
        self._btfs, self._wanted = btfs, wanted
        self._declared: dict[str, None] = {}  # "struct sock"
        self._defined: dict[str, str] = {}  # "struct sock" -> its C
        self._begun: set[str] = set()

    def lines(self) -> Iterator[str]:
        flags: list[str] = []
        for name, fields in self._wanted.items():
            btf, type_id = self._first(name, [field for field in fields or () if not field.endswith("?")])
            present = {field for field, *_ in _fields(btf, type_id)} if btf.type(type_id).kind not in _ENUMS else set(_names(btf, type_id))
            flags += [f"#define HAS_{name}_{field[:-1]} 1" for field in fields or () if field.endswith("?") and field[:-1] in present]
            self._define(btf, type_id)
        yield from flags
        yield from (f"{name};" for name in self._declared)
        yield from self._defined.values()

    def _first(self, name: str, fields: Sequence[str]) -> tuple[Btf, int]:
        lacking: list[str] = []
        for btf in self._btfs:
            for type_id in btf.find(name, _NAMED):
                lacking = [field for field in fields if field not in _names(btf, type_id)]
                if not lacking:
                    return btf, type_id
        if lacking:
            raise BtfError(f"{name} has no {', '.join(lacking)} in this kernel: ask for `{lacking[0]}?` and test HAS_{name}_{lacking[0]}")
        raise BtfError(f"this kernel's BTF has no {name}: load the module that it belongs to, or ask for something else")

    def _define(self, btf: Btf, type_id: int) -> None:
        """Add the definition of a named type, after those of what it is made of."""
        found = btf.type(type_id)
        key = found.name if found.kind == "typedef" else f"{found.kind.removesuffix('64')} {found.name}"
        if key in self._defined:
            return
        if key in self._begun:
            raise RecursionError
        self._begun.add(key)
        asked = self._wanted.get(found.name)
        if found.kind in _ENUMS:
            constants = [(name, value) for name, value in found.constants if asked is None or {name, f"{name}?"} & set(asked)]
            self._defined[key] = f"{key} {{ {', '.join(f'{name} = {value}' for name, value in constants)} }};"
        elif found.kind == "typedef":
            self._defined[key] = f"typedef {self._typedef(btf, found)};"
        else:
            self._declared[key] = None
            self._defined[key] = f"{self._record(btf, type_id, asked)};"

    def _typedef(self, btf: Btf, found: Type) -> str:
        inner = btf.peel(found.target)
        if btf.type(inner).kind in _RECORDS and not btf.type(inner).name:
            return f"{self._record(btf, inner, self._wanted.get(found.name))} {found.name}"
        return self._declaration(btf, found.target, found.name)

    def _record(self, btf: Btf, type_id: int, asked: Sequence[str] | None) -> str:
        """A struct or union with its braces, without a semicolon."""
        found = btf.type(type_id)
        fields = [
            self._field(btf, member, bit_offset)
            for name, member, bit_offset in _fields(btf, type_id)
            if asked is None or name in asked or f"{name}?" in asked
        ]
        whole = [f"char all_of_it[{found.size_bytes}];"] if found.size_bytes else []
        body = "\n".join(f"        {line}" for line in [*fields, *whole])
        aligned = f"__attribute__((packed, aligned({_alignment(btf, type_id)})))"
        name = f"{found.name} " if found.name else ""
        return f"{found.kind} {name}{{\n    union {{\n{body}\n    }} __attribute__((packed));\n}} {aligned}"

    def _field(self, btf: Btf, member: Member, bit_offset: int) -> str:
        offset, bits_before = divmod(bit_offset, 8)
        if not member.bits:
            return _behind(offset, member.name, f"{self._declaration(btf, member.type_id, member.name)};")
        found = btf.type(btf.peel(member.type_id))
        sign = "" if found.signed else "unsigned "
        base = "_Bool" if found.boolean else f"{sign}{'long long' if member.bits + bits_before > 32 else 'int'}"
        before = f"unsigned char : {bits_before}; " if bits_before else ""
        return _behind(offset, member.name, f"{before}{base} {member.name} : {member.bits};")

    def _declaration(self, btf: Btf, type_id: int, name: str) -> str:
        """`int name`, `struct sock *name`, `unsigned char name[16]`: what C writes before the semicolon."""
        outer = btf.type(type_id)
        while outer.kind in {"const", "volatile", "restrict", "type_tag"}:
            type_id = outer.target
            outer = btf.type(type_id)
        if outer.kind == "typedef" and outer.name in self._wanted:
            self._define(btf, type_id)
            return f"{outer.name} {name}"
        peeled = btf.peel(type_id)
        found = btf.type(peeled)
        if found.kind == "ptr":
            return self._pointer(btf, found.target, name)
        if found.kind == "array":
            return self._declaration(btf, found.target, f"{name}[{found.length}]")
        if found.kind in _RECORDS and found.name:
            self._define(btf, peeled)
            return f"{found.kind} {found.name} {name}"
        if found.kind in _RECORDS:
            return f"{self._record(btf, peeled, None)} {name}"
        return (
            f"{_integer(found)} {name}" if found.size_bytes in _INTEGERS and found.kind != "float" else f"char {name}[{found.size_bytes}]"
        )

    def _pointer(self, btf: Btf, target: int, name: str) -> str:
        found = btf.type(btf.peel(target))
        if found.kind in {*_RECORDS, "fwd"} and found.name:
            # bit 31 of a forward declaration tells a union; every pointer is as long, so that `struct` serves both
            key = f"{found.kind if found.kind in _RECORDS else 'struct'} {found.name}"
            self._declared[key] = None
            return f"{key} *{name}"
        if found.kind == "int":
            return f"{_integer(found)} *{name}"
        return self._pointer(btf, found.target, f"*{name}") if found.kind == "ptr" else f"void *{name}"


def _fields(btf: Btf, type_id: int, at: int = 0) -> Iterator[tuple[str, Member, int]]:
    """(name, field, offset in bits) of all fields, also those of anonymous members."""
    for member in btf.type(btf.peel(type_id)).members:
        if member.name:
            yield member.name, member, at + member.bit_offset
        elif not member.bits and btf.type(btf.peel(member.type_id)).kind in _RECORDS:
            yield from _fields(btf, member.type_id, at + member.bit_offset)


def _names(btf: Btf, type_id: int) -> list[str]:
    found = btf.type(type_id)
    return [name for name, _ in found.constants] if found.kind in _ENUMS else [name for name, *_ in _fields(btf, type_id)]


def _behind(offset: int, name: str, declaration: str) -> str:
    before = f"char before_{name}[{offset}]; " if offset else ""
    return f"struct {{ {before}{declaration} }} __attribute__((packed));"


def _integer(found: Type) -> str:
    if found.boolean or found.name == "char":
        return "_Bool" if found.boolean else "char"
    word = _INTEGERS.get(found.size_bytes, "char")
    return f"{'signed' if found.signed else 'unsigned'} {word}"


def _alignment(btf: Btf, type_id: int) -> int:
    """The alignment in bytes that a type's fields give it, no more than its size and their offsets allow: BTF does not keep `packed`."""
    found = btf.type(btf.peel(type_id))
    if found.kind == "array":
        return _alignment(btf, found.target)
    if found.kind == "ptr":
        return 8
    if found.kind not in _RECORDS:
        return max(1, found.size_bytes)
    alignment = 1
    for member in found.members:
        natural = btf.type(btf.peel(member.type_id)).size_bytes if member.bits else _alignment(btf, member.type_id)
        while not member.bits and natural > 1 and member.bit_offset // 8 % natural:
            natural //= 2
        alignment = max(alignment, natural)
    while alignment > 1 and found.size_bytes % alignment:
        alignment //= 2
    return alignment
