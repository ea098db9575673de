"""The header tree: made once, by however many processes, from what a kernel tells, and never from what somebody else has put there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import ROOT

from probes.live.headers import HeaderError, header_tree
from probes.live.headers.tree import STUBS, version_header

from .ctypes_of import btf_of, layout

SOURCE = "struct sk_buff { int a; char before[{}]; unsigned len; } s;"
WANTED = {"sk_buff": ("len",)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hopline"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A /sys/kernel with the BTF of a kernel that has one struct."""
    return another_kernel(tmp_path / "kernel", 12)


def another_kernel(folder: Path, before: int) -> Path:
    (folder / "btf").mkdir(parents=True, exist_ok=True)
    source = folder / "types.c"
    source.write_text(SOURCE.replace("{}", str(before), 1))
    (folder / "btf/vmlinux").write_bytes(btf_of(source))
    return folder


def test_a_tree_is_made_once_for_a_kernel_and_what_is_wanted(cache: Path, kernel: Path, tmp_path: Path) -> None:
    first = header_tree(WANTED, kernel)
    made = (first.include / "vmlinux.h").stat()
    again = header_tree(WANTED, kernel)
    assert again == first
    assert (again.include / "vmlinux.h").stat().st_mtime_ns == made.st_mtime_ns
    assert header_tree({"sk_buff": ("a",)}, kernel) != first
    assert header_tree(WANTED, another_kernel(tmp_path / "other", 28)) != first
    assert first.source == "BTF"
    assert len(list(cache.iterdir())) == 3


def test_the_tree_is_the_running_kernels(cache: Path, kernel: Path) -> None:
    tree = header_tree(WANTED, kernel)
    assert tree.kernel_source
    text = (tree.include / "vmlinux.h").read_text().replace("#include <linux/ptrace.h>", "")
    (tree.include / "vmlinux.h").write_text(text)
    assert layout(tree.include / "vmlinux.h", {"struct sk_buff": ("len",)})[1] == "struct sk_buff.len at 16, 4 bytes"
    assert (tree.kernel_source / "include/linux/version.h").read_text() == version_header(os.uname().release)


@pytest.mark.parametrize(
    ("release", "numbers"),
    [
        ("6.18.44-fc-v595", "6, 18, 44"),
        ("6.1.0-18-amd64", "6, 1, 0"),
        ("5.10-generic", "5, 10, 0"),
        ("4.19.325", "4, 19, 325"),
        ("odd", "0, 0, 0"),
    ],
)
def test_the_version_is_what_uname_says(release: str, numbers: str) -> None:
    assert f"KERNEL_VERSION({numbers})\n" in version_header(release)


def test_many_processes_at_once_make_one_tree(cache: Path, kernel: Path) -> None:
    program = "from pathlib import Path\n"
    program += f"from probes.live.headers import header_tree\nprint(header_tree({WANTED}, Path({str(kernel)!r})).include)"
    running = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(7)]
    said = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 7
    assert len(said) == 1
    assert [str(path / "own") for path in cache.iterdir()] == [*said]


def test_a_cache_that_cannot_be_written_is_passed_over(tmp_path: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write where permissions say no: a file where the folder should be stops anybody."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tree = header_tree(WANTED, kernel)
    assert tree.include.is_relative_to(tmp_path / f"hopline-{os.geteuid()}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(HeaderError, match="set XDG_CACHE_HOME"):
        header_tree(WANTED, kernel)


def test_a_full_cache_that_is_read_only_is_used(cache: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = header_tree(WANTED, kernel)
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: pytest.fail("it was there already"))
    assert header_tree(WANTED, kernel) == made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")
@pytest.mark.parametrize("how", ["another's", "writable by all", "a link"])
def test_what_others_can_write_is_never_compiled(
    how: str, cache: Path, kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    trap = header_tree(WANTED, kernel).include
    if how == "another's":
        os.chown(cache, 65534, 65534)
    elif how == "writable by all":
        cache.chmod(0o777)
    else:
        cache.rename(cache.with_name("elsewhere"))
        cache.symlink_to("elsewhere")
    assert trap.exists()
    assert header_tree(WANTED, kernel).include.is_relative_to(tmp_path / "home")


def test_without_btf_real_headers_serve(cache: Path, tmp_path: Path) -> None:
    kernel, modules = tmp_path / "kernel", tmp_path / "modules"
    kernel.mkdir()
    with pytest.raises(HeaderError, match=f"no {kernel}/btf/vmlinux, no {modules}/.*; boot a kernel with CONFIG_DEBUG_INFO_BTF"):
        header_tree(WANTED, kernel, modules)

    (tmp_path / "mark").write_text("#define MARK 23\n")
    with tarfile.open(kernel / "kheaders.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "mark", "include/linux/mark.h")
    kheaders = header_tree(WANTED, kernel, modules)
    assert kheaders.source == "kheaders"
    assert kheaders.kernel_source
    assert (kheaders.kernel_source / "include/linux/mark.h").read_text() == "#define MARK 23\n"
    assert (kheaders.include / "vmlinux.h").read_text().splitlines() == ["#include <linux/ptrace.h>", "#include <linux/skbuff.h>"]
    assert [path.name for path in kheaders.include.iterdir()] == ["vmlinux.h"]  # no stub of ours shadows a real header

    build = modules / os.uname().release / "build"
    build.mkdir(parents=True)
    real = header_tree(WANTED, kernel, modules)
    assert (real.source, real.kernel_source) == (str(build), None)
    with pytest.raises(HeaderError, match="nothing is known of nobody"):
        header_tree({"nobody": None}, kernel, modules)


def test_what_wants_nothing_of_the_kernel_needs_no_btf(cache: Path, tmp_path: Path) -> None:
    assert header_tree({}, tmp_path / "nowhere", tmp_path / "nowhere").source == "none needed"


def test_every_header_says_its_licence() -> None:
    for path in STUBS.rglob("*.h"):
        assert path.read_text().startswith("// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0\n"), path
