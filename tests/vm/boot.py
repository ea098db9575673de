"""Runs one command as root on Debian's own kernel: a qemu machine whose root filesystem is a thrown-away copy of this machine's.

    python tests/vm/boot.py [--no-headers] [--append WORDS] [--share FOLDER]… -- COMMAND [ARGUMENT…]

The guest sees this machine's / read-only through 9p under an overlay in its memory: every program, Python environment and source is there
by the same path, and what it writes is gone afterwards, except below a shared folder. It has no network card. The exit status is the
command's; 124 where the time was over, 125 where the guest died. Kernel, modules and headers are Debian's packages, unpacked below
$XDG_CACHE_HOME/hopline/vm: nothing is installed here. Needs qemu-system-x86, busybox-static, kmod and apt. Without nested virtualisation
qemu translates every instruction: Python runs 15 to 30 times slower.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hopline" / "vm"
PACKAGES = ("linux-image-amd64", "linux-headers-amd64")  # metapackages: they depend on today's
ROOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
KEPT_VARIABLES = re.compile(r"PATH|HOME|LANG|PYTHON\w*|NUMBA_\w+|HOPLINE_\w+")
KERNEL = "console=ttyS0 panic=-1 quiet mitigations=off nokaslr nowatchdog apparmor=0 rcupdate.rcu_expedited=1"
MARK = "hopline.guest=1"  # on the command line of the guest's kernel: what sets clocks looks for it
NINE = "trans=virtio,version=9p2000.L,msize=512000"

# The first half of init: the kernel's modules, then the layers of the root.
FIRST = """#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev; busybox mount -t proc proc /proc; busybox mount -t sysfs sys /sys
for module in /modules/*; do busybox insmod $module; done
for layer in {layers}; do
    busybox mkdir /lower/$layer; busybox mount -t 9p -o ro,cache=loose,{nine} $layer /lower/$layer
done
busybox mount -t tmpfs -o size=80% upper /upper; busybox mkdir /upper/files /upper/work
cd /lower; busybox mount -t overlay -o lowerdir={lower},upperdir=/upper/files,workdir=/upper/work overlay /root
{shares}
for place in dev proc sys; do busybox mount --move /$place /root/$place; done
exec busybox switch_root /root /bin/bash {second}
"""
# The second half, on the new root (process 1 must be in it for the kernel to find modprobe).
SECOND = """mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm; mount -t tmpfs run /run; mkdir -p /run/netns
mount -t bpf bpf /sys/fs/bpf; mount -t securityfs securityfs /sys/kernel/security; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug; mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up; hostname vm; stty -F /dev/hvc0 -opost -echo
{exports}
cd {folder} && setsid {command} </dev/null >/dev/hvc0 2>&1
echo $? >{status}; sync; echo o >/proc/sysrq-trigger; sleep 60
"""


def unpacked() -> Path:
    """The folder with `kernel/` and `headers/`, fetched where it is not there yet."""
    if not (CACHE / "complete").exists():
        names = _packages()
        shutil.rmtree(CACHE, ignore_errors=True)
        downloads = CACHE / "downloads"
        downloads.mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-q", *names], cwd=downloads, check=True, stdout=sys.stderr)
        for package in downloads.iterdir():
            layer = CACHE / ("kernel" if package.name.startswith("linux-image") else "headers")
            (layer / "usr/lib").mkdir(parents=True, exist_ok=True)
            if not (layer / "lib").is_symlink():
                (layer / "lib").symlink_to("usr/lib")  # a layer over a root whose /lib is a link must not have a folder there
            tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", str(layer)], stdin=tar.stdout, check=True)
        subprocess.run(["depmod", "-b", str(CACHE / "kernel"), version()], check=True)
        for layer in ("kernel", "headers"):
            (CACHE / layer / "lib").unlink()
        shutil.rmtree(downloads)
        (CACHE / "complete").touch()
    return CACHE


def _packages() -> list[str]:
    """What the metapackages and the headers depend on, of Linux."""
    found: list[str] = []
    wanted = list(PACKAGES)
    while wanted:
        told = subprocess.run(["apt-cache", "depends", "--important", wanted.pop()], capture_output=True, text=True, check=True).stdout
        new = [name for name in re.findall(r"Depends: (linux-(?:image|headers|kbuild|compiler)\S+)", told) if name not in found]
        found += new
        wanted += [name for name in new if name.startswith("linux-headers")]
    return found


def version() -> str:
    """The release of the unpacked kernel, as `uname -r` tells it."""
    return next((CACHE / "kernel/usr/lib/modules").iterdir()).name


def _initramfs(run: Path, layers: Sequence[str], shares: Sequence[Path]) -> Path:
    root = run / "initramfs"
    for name in ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "busybox", root / "bin/busybox")
    (run / "lib").symlink_to(CACHE / "kernel/usr/lib")
    modules: list[str] = []
    for name in ROOT_MODULES:
        words = ["modprobe", "-d", str(run), "-S", version(), "--show-depends", name]
        modules += re.findall(r"^insmod (\S+)", subprocess.run(words, capture_output=True, text=True, check=True).stdout, re.MULTILINE)
    for number, module in enumerate(dict.fromkeys(modules)):
        shutil.copy(module, root / f"modules/{number:03d}-{Path(module).name}")
    mounts = [
        f"busybox mkdir -p /root{shlex.quote(str(share))}; busybox mount -t 9p -o {NINE} share{number} /root{shlex.quote(str(share))}"
        for number, share in enumerate(shares)
    ]
    init = FIRST.format(
        layers=" ".join(layers), lower=":".join(layers), nine=NINE, shares="\n".join(mounts), second=shlex.quote(str(run / "x/init"))
    )
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    with (run / "initramfs.img").open("wb") as image:
        subprocess.run("find . | busybox cpio -o -H newc 2>/dev/null", shell=True, cwd=root, stdout=image, check=True)
    return run / "initramfs.img"


def _devices(kind: str, folders: Sequence[tuple[str, Path]], more: str = "") -> list[str]:
    options = "security_model=none,multidevs=remap" + more
    return [word for tag, path in folders for word in ("-virtfs", f"local,id={tag},path={path},mount_tag={tag},{options}")]


def boot(command: Sequence[str], *, headers: bool, shares: Sequence[Path], memory_mib: int, timeout_seconds: int, more: str) -> int:
    """The exit status of `command`, run in a fresh guest in the current folder."""
    unpacked()
    layers = ["headers", "kernel", "machine"] if headers else ["kernel", "machine"]
    with tempfile.TemporaryDirectory(prefix="hopline-vm-") as folder:
        run = Path(folder)
        (run / "x").mkdir()
        shared = [run / "x", *shares]
        exports = [f"export {name}={shlex.quote(value)}" for name, value in os.environ.items() if KEPT_VARIABLES.fullmatch(name)]
        second = SECOND.format(
            exports="\n".join(exports), folder=shlex.quote(str(Path.cwd())), command=shlex.join(command), status=run / "x/status"
        )
        (run / "x/init").write_text(second)
        places = {"machine": Path("/")} | {layer: CACHE / layer for layer in layers if layer != "machine"}
        words = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", *_processor(), "-m", str(memory_mib), "-smp", "2",
            "-display", "none", "-vga", "none", "-serial", f"file:{CACHE / 'console.log'}",
            "-device", "virtio-serial-pci", "-chardev", "stdio,id=out,signal=off", "-device", "virtconsole,chardev=out",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
            *_devices("layer", list(places.items()), ",readonly=on"),
            *_devices("share", [(f"share{number}", share) for number, share in enumerate(shared)]),
            "-kernel", str(CACHE / f"kernel/boot/vmlinuz-{version()}"), "-initrd", str(_initramfs(run, layers, shared)),
            "-append", f"{KERNEL} {MARK} {more}",
        ]  # fmt: skip
        try:
            subprocess.run(words, stdin=subprocess.DEVNULL, timeout=timeout_seconds, check=False)
        except subprocess.TimeoutExpired:
            return 124
        status = run / "x/status"
        return int(status.read_text()) if status.exists() else 125


def _processor() -> list[str]:
    """Hardware virtualisation where this machine has it, a translated processor otherwise."""
    if os.access("/dev/kvm", os.W_OK) and re.search(r"\b(svm|vmx)\b", Path("/proc/cpuinfo").read_text()):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "Nehalem"]


def main() -> int:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-headers", action="store_true", help="hide the kernel headers from the guest")
    parser.add_argument("--share", action="append", default=[], type=Path, help="a folder that the guest may write, by the same path")
    parser.add_argument("--memory", type=int, default=4096, help="of the guest, in MiB")
    parser.add_argument("--timeout", type=int, default=1500, help="seconds until the guest is stopped")
    parser.add_argument("--append", default="", help="more of the kernel's command line")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("no command")
    shares = [share.resolve() for share in given.share]
    for share in shares:
        share.mkdir(parents=True, exist_ok=True)
    return boot(
        command, headers=not given.no_headers, shares=shares, memory_mib=given.memory, timeout_seconds=given.timeout, more=given.append
    )


if __name__ == "__main__":
    sys.exit(main())
