"""The manifests: what kustomize makes of them, what Kubernetes says of that, and what they ask a cluster to allow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from analysis.commands import app
from probes.live.features import CAPABILITIES
from tracer.live import RESOURCES

from .pod_security import LEVELS, containers, failing, level_of
from .server import ROOT

DEPLOY = ROOT / "deploy"
RENDERED = DEPLOY / "hopline.yaml"
PAGE = (ROOT / "docs" / "deploy.md").read_text()
VARIANTS = ("base", *sorted(f"overlays/{path.name}" for path in (DEPLOY / "overlays").iterdir()))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl, whose kustomize renders the manifests")
every_variant = pytest.mark.parametrize("variant", [pytest.param(v, marks=() if v == "base" else needs_kubectl) for v in VARIANTS])

Object = dict[str, Any]


def kustomize(variant: str) -> str:
    return subprocess.run(["kubectl", "kustomize", DEPLOY / variant], capture_output=True, text=True, check=True).stdout


@cache
def objects(variant: str) -> list[Object]:
    text = RENDERED.read_text() if variant == "base" else kustomize(variant)
    return [each for each in yaml.safe_load_all(text) if each]


def of_kind(variant: str, *kinds: str) -> list[Object]:
    return [each for each in objects(variant) if each["kind"] in kinds]


def pods(variant: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in of_kind(variant, "DaemonSet", "Deployment")}


@needs_kubectl
def test_the_rendered_manifest_is_what_kustomize_makes_of_the_base() -> None:
    assert RENDERED.read_text() == kustomize("base"), "run `make manifest`"


@pytest.mark.parametrize("release", kubernetes_validate.utils.all_versions())
def test_every_object_fits_the_schema_of_kubernetes(release: str) -> None:
    variants = VARIANTS if shutil.which("kubectl") else ("base",)
    for text in sorted({json.dumps(each) for variant in variants for each in objects(variant)}):
        kubernetes_validate.validate(json.loads(text), release, strict=True)


def test_a_schema_refuses_what_kubernetes_does_not_know() -> None:
    (daemonset,) = of_kind("base", "DaemonSet")
    wrong = {**daemonset, "spec": {**daemonset["spec"], "hostNetwork": True}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@every_variant
def test_the_namespace_is_labelled_with_the_level_that_its_pods_need(variant: str) -> None:
    (namespace,) = of_kind(variant, "Namespace")
    levels = {name: level_of(pod) for name, pod in pods(variant).items()}
    assert levels == {"hopline-agent": "privileged", "hopline-watcher": "restricted"}
    labels = {mode: namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")}
    assert set(labels.values()) == {max(levels.values(), key=LEVELS.index)}


def test_the_agent_is_beyond_baseline_for_these_reasons_alone() -> None:
    assert failing(pods("base")["hopline-agent"], "baseline") == ["host namespaces", "capabilities"]
    assert {name for name in ("hostNetwork", "hostPID", "hostIPC") if pods("base")["hopline-agent"].get(name)} == {"hostNetwork"}


@every_variant
def test_privileged_is_only_what_asks_for_it_by_name(variant: str) -> None:
    privileged = {c["name"] for pod in pods(variant).values() for c in containers(pod) if c["securityContext"].get("privileged")}
    assert privileged == ({"agent"} if variant == "overlays/privileged" else set())


def table(heading: str) -> list[list[str]]:
    """The rows of the table of the page whose header begins so; code marks are left out."""
    block = PAGE[PAGE.index(heading) :].split("\n\n")[0].replace("`", "")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def needs() -> dict[str, set[str]]:
    """The capabilities of each probe, without their prefix."""
    return {probe: set(re.findall(r"CAP_(\w+)", capabilities)) for probe, capabilities, *_ in table("| probe |")}


@every_variant
def test_capabilities_are_those_of_the_page_and_enough_for_its_probes(variant: str) -> None:
    (row,) = [row for row in table("| apply |") if row[0] == f"deploy/{variant}"]
    agent = pods(variant)["hopline-agent"]
    added = re.findall(r"\w+", row[1])
    for container in containers(agent):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": added}
    lacking = set() if "cgroups" in {volume["name"] for volume in agent["volumes"]} else {"sockets", "threads"}  # attach to the root cgroup
    able = {probe for probe, wanted in needs().items() if wanted <= set(added)} - lacking
    assert set(re.findall(r"\w+", row[2])) == able


def test_the_page_says_what_each_probe_asks_for() -> None:
    asked = {probe: {name.removeprefix("CAP_") for name in names} for probe, names in CAPABILITIES.items()}
    assert {probe: wanted for probe, wanted in needs().items() if probe in asked} == asked


def test_the_page_names_every_variant() -> None:
    assert {path.removeprefix("deploy/") for path, *_ in table("| apply |")} == set(VARIANTS)


@every_variant
def test_the_watcher_may_read_what_hopline_reads_and_nothing_else(variant: str) -> None:
    assert of_kind(variant, "Role", "RoleBinding") == []
    (role,) = of_kind(variant, "ClusterRole")
    allowed = {(group, resource) for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]}
    assert allowed == {(r.api_version.rpartition("/")[0], r.plural) for r in RESOURCES}
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    (binding,) = of_kind(variant, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hopline-watcher", "namespace": "hopline"}]


@every_variant
def test_only_the_watcher_has_a_token(variant: str) -> None:
    assert all(account["automountServiceAccountToken"] is False for account in of_kind(variant, "ServiceAccount"))
    tokens = {name: (pod["serviceAccountName"], pod["automountServiceAccountToken"]) for name, pod in pods(variant).items()}
    assert tokens == {"hopline-agent": ("hopline-agent", False), "hopline-watcher": ("hopline-watcher", True)}


@every_variant
def test_one_image_of_one_version(variant: str) -> None:
    assert {c["image"] for pod in pods(variant).values() for c in containers(pod)} == {f"hopline:{VERSION}"}


@every_variant
def test_nothing_is_written_but_bounded_volumes_that_go_with_the_pod(variant: str) -> None:
    for pod in pods(variant).values():
        volumes = {volume.pop("name"): volume for volume in map(dict, pod["volumes"])}
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
            assert all(volumes[name].keys() == {"emptyDir"} and volumes[name]["emptyDir"]["sizeLimit"] for name in writable)
            assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys() == {"cpu", "memory"}


@every_variant
def test_agents_are_on_every_node_and_push_nobody_away(variant: str) -> None:
    agent = pods(variant)["hopline-agent"]
    assert agent["tolerations"] == [{"operator": "Exists"}]
    (priority,) = of_kind(variant, "PriorityClass")
    assert agent["priorityClassName"] == priority["metadata"]["name"]
    assert priority["value"] < 0
    assert priority["preemptionPolicy"] == "Never"


@every_variant
def test_the_command_line_takes_every_argument(variant: str) -> None:
    commands = typer.main.get_command(app)
    for pod in pods(variant).values():
        for container in containers(pod):
            name, *arguments = container["args"]
            command = commands.commands[name]  # type: ignore[attr-defined]  # a group's
            context = command.make_context(name, arguments, resilient_parsing=False)
            port = {f"{p['containerPort']}" for p in container.get("ports", [])}
            assert {(context.params.get("listen") or ":").rpartition(":")[2]} - {""} == port


def test_the_page_shows_the_files_that_there_are() -> None:
    for path in re.findall(r"`(deploy/[\w/.-]+)`", PAGE):
        assert (ROOT / Path(path)).exists(), path
