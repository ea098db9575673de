"""The Helm chart: Helm's own library renders it, and what comes out is what kustomize makes of the base and its overlays."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from .test_deploy import VERSION, Object, objects

CHART = Path(__file__).parents[2] / "deploy" / "chart"
VALUES: dict[str, Object] = {  # of each variant that kustomize makes
    "base": {},
    "overlays/ledger": {"probes": "ledger"},
    "overlays/full": {"probes": "full"},
    "overlays/privileged": {"probes": "privileged"},
    "overlays/always-on": {"alwaysOn": {"enabled": True}},
}
HELM_LABELS = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"}
variants = pytest.mark.parametrize(
    "variant",
    [v if v == "base" else pytest.param(v, marks=pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl")) for v in VALUES],
)


def rendered(values: Object, namespace: str = "hopline") -> list[Object]:
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name="hopline", namespace=namespace)
    return [each for name, text in files.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text) if each]


def by_name(some: list[Object]) -> dict[tuple[str, str], Object]:
    """Objects without what Helm alone adds, and without the namespace, which Helm leaves to its user."""
    found = {(each["kind"], each["metadata"]["name"]): copy.deepcopy(each) for each in some if each["kind"] != "Namespace"}
    for each in found.values():
        for label in HELM_LABELS:
            each["metadata"].get("labels", {}).pop(label, None)
    return found


def container(some: list[Object], name: str) -> Any:
    pods = [each["spec"]["template"]["spec"] for each in some if each["kind"] in {"DaemonSet", "Deployment"}]
    return next(each for pod in pods for each in pod["containers"] if each["name"] == name)


@variants
def test_the_chart_renders_what_kustomize_does(variant: str) -> None:
    assert by_name(rendered(VALUES[variant])) == by_name(objects(variant))


def test_every_object_says_which_release_it_is_of() -> None:
    for each in rendered({}):
        assert each["metadata"]["labels"].keys() >= HELM_LABELS


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_and_kubernetes_find_nothing_wrong(values: Object) -> None:
    found = helm_python.lint(CHART, values, strict=True)
    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []
    for each in rendered(values):
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_what_is_chosen_is_what_runs() -> None:
    image = {"repository": "registry.example/hopline", "tag": "7", "pullPolicy": "Always"}
    resources = {"limits": {"cpu": "2"}}
    values = {
        "image": image,
        "imagePullSecrets": [{"name": "pull"}],
        "agent": {"resources": resources, "tolerations": [], "nodeSelector": {"pool": "a"}},
        "watcher": {"enabled": False},
        "priorityClass": {"create": False, "name": "mine"},
        "alwaysOn": {"enabled": True, "maxCpu": 7, "maxDisk": "1GiB"},
    }
    some = rendered(values, "watched")
    assert sorted(each["kind"] for each in some) == ["DaemonSet", "ServiceAccount"]
    assert {each["metadata"]["namespace"] for each in some} == {"watched"}
    (daemons,) = (each["spec"]["template"]["spec"] for each in some if each["kind"] == "DaemonSet")
    assert daemons["priorityClassName"] == "mine"
    assert daemons["imagePullSecrets"] == [{"name": "pull"}]
    assert daemons["tolerations"] == []
    assert daemons["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "a"}
    assert container(some, "agent")["image"] == "registry.example/hopline:7"
    assert container(some, "agent")["imagePullPolicy"] == "Always"
    assert container(some, "agent")["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert {"--max-cpu=7", "--max-disk=1GiB"} < set(container(some, "recorder")["args"])


@pytest.mark.parametrize("values", [{"probes": "everything"}, {"imagePullPolicy": "Always"}, {"alwaysOn": {"maxCpu": 0}}], ids=str)
def test_a_mistake_in_the_values_is_said(values: Object) -> None:
    with helm_python.Chart.load(CHART) as chart, pytest.raises(helm_python.HelmValuesError):
        chart.validate_schema(values)


def test_the_chart_is_of_the_version_that_it_deploys() -> None:
    with helm_python.Chart.load(CHART) as chart:
        assert (chart.version, chart.metadata["appVersion"]) == (VERSION, VERSION)
