"""C types as gcc sees them: what a header makes of the same bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

Fields = Mapping[str, Sequence[str]]


def layout(header: Path, fields: Fields, constants: Sequence[str] = (), folders: Sequence[Path] = ()) -> list[str]:
    """One line per type (its size) and field (its bytes, or a bitfield's value, where all the type's bytes count upwards)."""
    lines = [f'#include "{header.name}"', "int printf(const char *, ...);", "int main(void) {"]
    for name, wanted in fields.items():
        lines.append(f"{{ static union {{ {name} it; unsigned char bytes[sizeof({name})]; }} u; unsigned long i;")
        lines.append(f'for (i = 0; i < sizeof(u); i++) u.bytes[i] = i * 37 + i / 256; printf("{name} %zu\\n", sizeof(u));')
        for field in wanted:
            if field.endswith(":"):
                lines.append(f'printf("{name}.{field} %lld\\n", (long long)u.it.{field[:-1]});')
            else:
                where = f"(unsigned long)((char *)&u.it.{field} - (char *)&u)"
                lines.append(f'printf("{name}.{field} at %lu, %zu bytes\\n", {where}, sizeof(u.it.{field}));')
        lines.append("}")
    lines += [f'printf("{name} %lld\\n", (long long){name});' for name in constants]
    program = header.with_name(f"{header.stem}-layout.c")
    program.write_text("\n".join([*lines, "return 0; }"]))
    subprocess.run(["gcc", "-w", *(f"-I{folder}" for folder in folders), str(program), "-o", str(program.with_suffix(""))], check=True)
    return subprocess.run([str(program.with_suffix(""))], capture_output=True, text=True, check=True).stdout.splitlines()


def btf_of(source: Path) -> bytes:
    """The BTF that gcc writes for a C file."""
    compiled, section = source.with_suffix(".o"), source.with_suffix(".btf")
    subprocess.run(["gcc", "-gbtf", "-c", str(source), "-o", str(compiled)], check=True)
    flags = ["-O", "binary", "--only-section=.BTF", "--set-section-flags", ".BTF=alloc"]
    subprocess.run(["objcopy", *flags, str(compiled), str(section)], check=True)
    return section.read_bytes()
