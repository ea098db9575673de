"""Podman and buildah with a store of their own, the base image that they build upon, and containers as a pod's spec asks for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ROOT

BASE = "docker.io/library/debian:bookworm-slim"
IMAGE = "localhost/hopline:test"
# What containerd's and Docker's profiles say of these two; that of Debian 12's podman still asks for CAP_SYS_ADMIN.
SECCOMP_BY_CAPABILITY = {"CAP_BPF": "bpf", "CAP_PERFMON": "perf_event_open"}
PODMAN_SECCOMP = Path("/usr/share/containers/seccomp.json")
# crun knows no cgroup v1 with a v2 tree beside it, as some build machines have: such a tree is out of sight for podman.
ALONE = ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh"]


@dataclass(frozen=True)
class Store:
    """Images and containers in `folder`, apart from the machine's own."""

    folder: Path

    def tool(self, name: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        places = ["--root", self.folder / "store", "--runroot", self.folder / "run", "--storage-driver", "overlay"]
        done = subprocess.run([*ALONE, name, *places, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{name} {arguments[0]}: {done.stderr[-3000:]}"
        return done

    def podman(self, command: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.tool("podman", "--cgroup-manager", "cgroupfs", command, *arguments, check=check)

    def build(self) -> None:
        """The image, upon a base that debootstrap makes, with packages that this machine's pip brings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.podman("image", "exists", BASE, check=False).returncode:
            self._make_base()
        wheels, settings = self.folder / "wheels", self.folder / "pip.conf"
        shutil.rmtree(wheels, ignore_errors=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, ".", "hatchling>=1.25"]
        subprocess.run(download, cwd=ROOT, check=True)
        settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        self.tool(
            "buildah", "bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers", "--quiet",
            "--file", "deploy/Containerfile", "--ignorefile", "deploy/Containerfile.dockerignore", "--tag", IMAGE,
            "--secret", f"id=pip,src={settings}", "--volume", f"{wheels}:/wheels:ro", ".",
        )  # fmt: skip

    def _make_base(self) -> None:
        tree, packed = self.folder / "debian", self.folder / "debian.tar"
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tree], stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["tar", "-C", tree, "-cf", packed, "."], check=True)
        self.podman("import", packed, BASE)
        shutil.rmtree(tree)
        packed.unlink()


def seccomp_profile(folder: Path) -> Path:
    """Podman's default profile with the rules for SECCOMP_BY_CAPABILITY that other runtimes have."""
    profile = json.loads(PODMAN_SECCOMP.read_text())
    for rule in profile["syscalls"]:
        if rule["action"] != "SCMP_ACT_ALLOW":
            rule["names"] = [name for name in rule["names"] if name not in SECCOMP_BY_CAPABILITY.values()]
    allowed = [
        {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {"caps": [capability]}, "excludes": {}}
        for capability, name in SECCOMP_BY_CAPABILITY.items()
    ]
    profile["syscalls"] = [*(rule for rule in profile["syscalls"] if rule["names"]), *allowed]
    path = folder / "seccomp.json"
    path.write_text(json.dumps(profile))
    return path


def as_asked(pod: dict[str, Any], container: dict[str, Any], folder: Path) -> list[str]:
    """Podman's options for what a pod's spec says of a container's rights; its emptyDirs are folders in `folder`."""
    asked = {**pod["securityContext"], **container["securityContext"]}
    capabilities = asked["capabilities"]
    options = ["--user", f"{asked['runAsUser']}:{asked['runAsGroup']}", "--env", "NODE_NAME=node-a"]
    options += [f"--read-only={asked['readOnlyRootFilesystem']}", "--read-only-tmpfs=false"]
    options += ["--security-opt", f"seccomp={seccomp_profile(folder)}"]
    options += [option for name in capabilities.get("drop", []) for option in ("--cap-drop", name)]
    options += [option for name in capabilities.get("add", []) for option in ("--cap-add", name)]
    if not asked["allowPrivilegeEscalation"]:
        options += ["--security-opt", "no-new-privileges"]
    for mount in container["volumeMounts"]:
        if mount.get("readOnly"):
            continue  # of the node
        place = folder / mount["name"]
        place.mkdir(exist_ok=True)
        place.chmod(0o777)  # as the kubelet makes an emptyDir
        options += ["--volume", f"{place}:{mount['mountPath']}"]
    return [*options, *limits()]


def limits() -> Iterable[str]:
    """Within what this process may: podman's own defaults are beyond it where CAP_SYS_RESOURCE is missing."""
    return ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096")


def missing() -> str | None:
    """Why no image can be built and started here; None where it can."""
    if "HOPLINE_TEST_IMAGE" not in os.environ:
        return "takes minutes: make image-test (HOPLINE_TEST_IMAGE=FOLDER)"
    lacking = [name for name in ("podman", "buildah", "debootstrap", "crun") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else None
