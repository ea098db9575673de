"""Generated rules against those that kube-proxy 1.36 wrote: every node of the samples and of the recorded captures, Service by Service."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import CAPTURES, SAMPLES
from kube_proxy_dumps import (
    SHARED,
    by_service,
    ipsets,
    nft_table,
    nodes,
    objects,
    own_addresses,
    servers,
    service_ports,
    tables,
    view,
)  # fmt: skip

from probes.live.kube_proxy.iptables import restore
from probes.live.kube_proxy.ipvs import ipvs
from probes.live.kube_proxy.nftables import ruleset

FAMILIES = (False, True)  # IPv6?


def recorded(kind: str, but_not: str = "-") -> list[object]:
    """(folder, node) of every dump of `kind` of a node that has none of the other."""
    folders = sorted({path.parent for place in (SAMPLES, CAPTURES) for path in place.glob(f"**/node-*.{kind}.txt")})
    return [
        pytest.param(folder, node, id=f"{'/'.join(folder.parts[-2:])}/{node}")
        for folder in folders
        for node in nodes(folder, kind)
        if node not in nodes(folder, but_not)
    ]


def dump(folder: Path, node: str, kind: str) -> str:
    return (folder / f"{node}.{kind}.txt").read_text()


@pytest.mark.parametrize(("folder", "node"), recorded("iptables-save", but_not="ipvsadm-save"))
def test_iptables_rules_are_kube_proxys(folder: Path, node: str) -> None:
    items, text = objects(folder), dump(folder, node, "iptables-save")
    for ipv6 in FAMILIES:
        generated = tables(restore(view(items, node, ipv6=ipv6), service_ports(items, node, ipv6=ipv6)))
        real = tables(text, ipv6=ipv6)
        assert by_service(generated) == by_service(real)
        assert generated["nat"]["KUBE-SERVICES"][-1] == real["nat"]["KUBE-SERVICES"][-1]
        for table, chains in real.items():  # the order of Services in chains that they share is chance; all else is in order
            assert {chain: rules for chain, rules in chains.items() if chain not in SHARED} == {
                chain: rules for chain, rules in generated[table].items() if chain not in SHARED
            }


@pytest.mark.parametrize(("folder", "node"), recorded("nft-ruleset", but_not="ipvsadm-save"))
def test_nftables_rules_are_kube_proxys(folder: Path, node: str) -> None:
    items, text = objects(folder), dump(folder, node, "nft-ruleset")
    for ipv6 in FAMILIES:
        services = service_ports(items, node, ipv6=ipv6)
        generated = nft_table(ruleset(view(items, node, ipv6=ipv6), services), ipv6=ipv6)
        if not services:  # not modelled: a family that the cluster does not have, where --cluster-cidr tells nothing of who is outside
            masquerade = generated["chain services"].pop(0)
            assert masquerade.endswith('comment "masquerade clusterIP traffic from outside cluster"')
        assert generated == nft_table(text, ipv6=ipv6)


@pytest.mark.parametrize(("folder", "node"), recorded("ipvsadm-save"))
def test_ipvs_state_is_kube_proxys(folder: Path, node: str) -> None:
    items = objects(folder)
    sets: dict[str, list[str]] = {}
    virtual: dict[str, list[str]] = {}
    for ipv6 in FAMILIES:
        own = own_addresses(dump(folder, node, "links"))
        generated = ipvs(view(items, node, ipv6=ipv6, own=own), service_ports(items, node, ipv6=ipv6))
        assert by_service(tables(generated.iptables)) == by_service(tables(dump(folder, node, "iptables-save"), ipv6=ipv6))
        sets |= ipsets(generated.ipsets)
        virtual |= servers(generated.servers)
        bound = {line.split()[2] for line in generated.ipsets.splitlines() if line.startswith("add ") and "IPVS-IPS" in line}
        assert set(generated.addresses) == bound
    assert sets == ipsets(dump(folder, node, "ipset-save"))
    assert virtual == servers(dump(folder, node, "ipvsadm-save"))
