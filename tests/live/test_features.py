"""What doctor asks for is what the recorder's probes need, and what a pod is given."""

from __future__ import annotations

from probes.live.features import CAPABILITIES, NEEDS, REMEDIES, tried
from probes.live.recorder import PROBES
from probes.live.refusals import CAPABILITY_BITS

from .test_deploy import needs


def test_doctor_and_the_manifests_ask_for_the_same() -> None:
    """How few are enough is measured in test_deploy_capabilities.py."""
    page = {probe: {f"CAP_{name}" for name in names} for probe, names in needs().items()}
    assert {probe: set(CAPABILITIES[probe]) for probe in page} == page


def test_every_probe_is_known() -> None:
    assert PROBES.keys() <= NEEDS.keys()
    for wanted in NEEDS.values():
        assert {*wanted.capabilities, *(each for each in wanted.better if each.startswith("CAP_"))} <= CAPABILITY_BITS.keys()


def test_every_feature_is_tried() -> None:
    features = {each for wanted in NEEDS.values() for each in (*wanted.features, *wanted.better) if not each.startswith("CAP_")}
    assert features == tried().keys()
    assert REMEDIES.keys() <= features
