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

from analysis.commands import doctor as command
from analysis.commands.doctor import TINY_CAPTURE

module = importlib.import_module("analysis.commands.doctor")
ALL_CAPABILITIES = "CapEff:\t000001ffffffffff\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder whose /proc and /sys a test fills, and no kubeconfig."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
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
    for feature in ("cluster snapshot, watch", "live packets", "conntrack events", "kprobes", "IPVS"):
        assert not found[feature]["ok"], feature
    assert "CAP_NET_RAW, CAP_BPF" in found["live packets"]["why"]
    assert "mount -t tracefs" in found["kprobes"]["fix"]


def test_a_full_machine_lacks_nothing_live(hopline: Hopline, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(
        machine, kubeconfig="apiVersion: v1\n", proc__self__status=ALL_CAPABILITIES, sys__kernel__btf__vmlinux="", proc__net__ip_vs="",
        proc__sys__net__netfilter__nf_conntrack_count="0", sys__kernel__tracing__kprobe_events="",
        sys__kernel__security__lockdown="none [integrity] confidentiality\n", bcc__libbcc="",
    )  # fmt: skip
    found_bcc(machine, monkeypatch, "libbcc.py")
    found = verdicts(hopline)
    assert [feature for feature, verdict in found.items() if not verdict["ok"] and feature != "deep look at packets"] == []


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
    live = verdicts(hopline)["live packets"]
    assert ("bcc" in live["why"]) == (said is not None)
    if said:
        assert said in live["why"]
        assert "apt install python3-bpfcc" in live["fix"]


@pytest.mark.parametrize(
    ("mask", "lacking"),
    [("0", {"CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}), ("2000", {"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}),
     ("200000", {"CAP_NET_RAW", "CAP_NET_ADMIN"}), ("1ffffffffff", set())],
)  # fmt: skip
def test_capabilities_count_not_the_user(mask: str, lacking: set[str], hopline: Hopline, machine: Path) -> None:
    fill(machine, proc__self__status=f"Uid:\t0\t0\nCapEff:\t{mask:0>16}\n")
    said = " ".join(verdict["why"] for verdict in verdicts(hopline).values())
    assert {name for name in ("CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON") if name in said} == lacking


def test_lockdown_in_its_strong_form_forbids_kprobes(hopline: Hopline, machine: Path) -> None:
    fill(machine, sys__kernel__security__lockdown="none integrity [confidentiality]\n")
    assert "locked down" in verdicts(hopline)["kprobes"]["why"]


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
    def no_place(*_: object) -> None:
        raise RuntimeError("cannot cache function 'f': no locator available for file 'x.py'")

    monkeypatch.setattr("probes.capture.read_capture", no_place)
    tracing = verdicts(hopline, code=1)["offline tracing"]
    assert tracing == {
        "feature": "offline tracing", "ok": False, "why": "cannot cache function 'f': no locator available for file 'x.py'",
        "fix": "export NUMBA_CACHE_DIR=$(mktemp -d)",
    }  # fmt: skip


def test_the_tiny_capture_is_one() -> None:
    tools = subprocess.run(["which", "capinfos"], capture_output=True, check=False)
    if tools.returncode:
        pytest.skip("capinfos is not installed")
    assert b"Number of packets:   1" in subprocess.run(["capinfos", "-c", "-"], input=TINY_CAPTURE, capture_output=True, check=False).stdout


def test_it_is_a_command() -> None:
    assert command is not None
