"""`hopline doctor` on machines that have everything, nothing, and something else under the same name."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Hopline
from rich.cells import cell_len

from analysis.commands.doctor import TINY_CAPTURE
from probes.live.features import NEEDS, tried

module = importlib.import_module("analysis.commands.doctor")
ALL_CAPABILITIES = "CapEff:\t000001ffffffffff\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder whose /proc and /sys a test fills, and no kubeconfig."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module._tried.cache_clear()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return tmp_path


def fill(machine: Path, **files: str) -> None:
    for name, content in files.items():
        path = machine / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def verdicts(hopline: Hopline, code: int = 0) -> dict[str, dict[str, Any]]:
    run = hopline("doctor", "--json")
    assert (run.code, run.err) == (code, "")
    return {verdict["feature"]: verdict for verdict in json.loads(run.out)}


def test_this_machine_can_trace(hopline: Hopline) -> None:
    found = verdicts(hopline)
    assert found["offline tracing"]["ok"]
    assert found["compressed captures"]["ok"]
    assert found["Parquet"]["ok"]
    for verdict in found.values():
        assert verdict["why"]
        assert bool(verdict["fix"]) != verdict["ok"]


def test_a_table_that_fits_the_screen(hopline: Hopline, machine: Path) -> None:
    run = hopline("doctor")
    assert run.code == 0
    assert "offline tracing" in run.out
    assert "modprobe ip_vs" in run.out
    assert max(cell_len(line) for line in run.out.splitlines()) <= 80


def test_an_empty_machine_lacks_what_is_live(hopline: Hopline, machine: Path) -> None:
    found = verdicts(hopline)
    for feature in ("cluster snapshot, watch", "IPVS", *(f"record {probe}" for probe in NEEDS)):
        assert not found[feature]["ok"], feature
    assert "not permitted: CAP_BPF, CAP_PERFMON, CAP_NET_RAW" in found["record packets"]["why"]


def test_a_full_machine_lacks_nothing_live(hopline: Hopline, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(
        machine, kubeconfig="apiVersion: v1\n", proc__self__status=ALL_CAPABILITIES, proc__net__ip_vs="",
    )  # fmt: skip
    kernel_has(monkeypatch)
    found_bcc(machine, monkeypatch, "libbcc.py")
    found = verdicts(hopline)
    assert [feature for feature, verdict in found.items() if not verdict["ok"] and feature != "deep look at packets"] == []


def kernel_has(monkeypatch: pytest.MonkeyPatch, **refused: str) -> None:
    """A kernel that allows everything but what is `refused`."""
    features = {feature for needs in NEEDS.values() for feature in (*needs.features, *needs.better)}
    monkeypatch.setattr("probes.live.features.tried", lambda root: {feature: refused.get(feature) for feature in features})


def found_bcc(machine: Path, monkeypatch: pytest.MonkeyPatch, *files: str) -> None:
    """As if `bcc` were a package of these files; none: not installed."""
    folder = machine / "site" / "bcc"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("raise RuntimeError('never imported')\n")
    spec = importlib.machinery.ModuleSpec("bcc", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: (spec if files else None) if name == "bcc" else find(name))


@pytest.mark.parametrize(
    ("files", "said"), [((), "bcc cannot be imported"), (("__init__.py",), "PyPI's, which is something else"), (("libbcc.py",), None)]
)
def test_bcc_is_debians_not_pypis(
    files: tuple[str, ...], said: str | None, hopline: Hopline, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_bcc(machine, monkeypatch, *files)
    fill(machine, proc__self__status=ALL_CAPABILITIES)
    kernel_has(monkeypatch)
    live = verdicts(hopline)["record packets"]
    assert ("bcc" in live["why"]) == (said is not None)
    if said:
        assert said in live["why"]
        assert "apt install python3-bpfcc" in live["fix"]


@pytest.mark.parametrize(
    ("mask", "lacking"),
    [("0", {"CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}), ("2000", {"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}),
     ("200000", {"CAP_NET_RAW", "CAP_NET_ADMIN"}), ("1ffffffffff", set())],
)  # fmt: skip
def test_capabilities_count_not_the_user(
    mask: str, lacking: set[str], hopline: Hopline, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_has(monkeypatch)
    fill(machine, proc__self__status=f"Uid:\t0\t0\nCapEff:\t{mask:0>16}\n")
    said = " ".join(verdict["why"] for verdict in verdicts(hopline).values())
    assert {name for name in ("CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON") if name in said} == lacking


def test_what_a_kernel_refuses_is_said_of_the_probes_that_need_it(hopline: Hopline, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(machine, proc__self__status="CapEff:\t000000c000001000\n")  # CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON
    found_bcc(machine, monkeypatch, "libbcc.py")
    kernel_has(monkeypatch, **{"kernel memory": "its lockdown is confidentiality"})
    found = verdicts(hopline)
    assert found["record sockets"]["ok"]
    assert found["record drops"]["ok"]
    assert "without whose packets they were (kernel memory: its lockdown is confidentiality)" in found["record drops"]["why"]
    assert "without names of the places (CAP_SYSLOG missing)" in found["record drops"]["why"]
    assert found["record natpath"]["why"] == "kernel memory: its lockdown is confidentiality"
    assert "lockdown=integrity" in found["record natpath"]["fix"]
    assert not found["record packets"]["ok"]


def test_trying_leaves_nothing_open() -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    tried()
    before = opened()
    tried()
    assert opened() == before


def test_a_pod_has_credentials_of_its_own(hopline: Hopline, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    fill(machine, var__run__secrets__kubernetes_io__serviceaccount__token="")
    (machine / "var/run/secrets/kubernetes_io").rename(machine / "var/run/secrets/kubernetes.io")
    assert verdicts(hopline)["cluster snapshot, watch"]["ok"]


def test_without_tshark(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    deep = verdicts(hopline)["deep look at packets"]
    assert "tshark is not installed" in deep["why"]
    assert "apt install tshark" in deep["fix"]


def test_a_tshark_that_does_not_work(hopline: Hopline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "tshark"
    fake.write_text("#!/bin/sh\necho 'error while loading shared libraries' >&2\nexit 127\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert "error while loading shared libraries" in verdicts(hopline)["deep look at packets"]["why"]


def test_offline_tracing_decides_the_exit_code(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.code_folders.started", ["probes.decode.frames.decode_frames"])
    monkeypatch.setattr("probes.code_folders.code_folders", lambda: ([Path("/usr/compiled/jit-1"), Path("/home/hopline/jit-1")], None))
    assert verdicts(hopline, code=1)["offline tracing"] == {
        "feature": "offline tracing", "ok": False,
        "why": "every command compiles for half a minute: /usr/compiled or /home/hopline cannot be written",
        "fix": "export NUMBA_CACHE_DIR=$(mktemp -d)",
    }  # fmt: skip


def test_the_tiny_capture_is_one() -> None:
    tools = subprocess.run(["which", "capinfos"], capture_output=True, check=False)
    if tools.returncode:
        pytest.skip("capinfos is not installed")
    assert b"Number of packets:   1" in subprocess.run(["capinfos", "-c", "-"], input=TINY_CAPTURE, capture_output=True, check=False).stdout
