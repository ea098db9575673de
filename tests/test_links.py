"""`ip -d addr` in both of its forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.addresses import parse
from probes.links import Link, read_links

TEXT = b"""1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 promiscuity 0  allmulti 0 minmtu 0 maxmtu 0 gso_max_size 65536
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet6 ::1/128 scope host\x20
       valid_lft forever preferred_lft forever
2: eth0@if6: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether 0a:58:ac:1e:00:0b brd ff:ff:ff:ff:ff:ff link-netns tb-underlay promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535\x20
    veth numtxqueues 2 numrxqueues 2 gso_max_size 65536
    inet 172.30.0.11/24 scope global eth0
       valid_lft forever preferred_lft forever
3: flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN group default qlen 1000
    link/ether 0a:58:0a:f4:00:00 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535\x20
    vxlan id 1 local 172.30.0.11 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum
    inet 10.244.0.0/32 scope global flannel.1
       valid_lft forever preferred_lft forever
5: cni0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP group default qlen 1000
    link/ether 0a:58:0a:f4:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535\x20
    bridge forward_delay 1500 hello_time 200 max_age 2000 ageing_time 30000
    inet6 fd00:10:244::1/64 scope global nodad\x20
6: veth24fee6ba@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue master cni0 state UP group default qlen 1000
    link/ether 66:15:42:84:4b:1b brd ff:ff:ff:ff:ff:ff link-netns tb-p-245df38f promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535\x20
    veth\x20
    bridge_slave state forwarding priority 32 cost 2 hairpin on guard off
7: sriov0: <BROADCAST> mtu 9000 qdisc mq state UP
    link/ether 66:15:42:84:4b:1c brd ff:ff:ff:ff:ff:ff
default via 172.30.0.1 dev eth0\x20
    inet 9.9.9.9/8 of nothing
"""
JSON = b"""[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,"link_type":"loopback",
"addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},{"family":"inet6","local":"::1","prefixlen":128}]},
{"ifindex":2,"link_index":6,"ifname":"eth0","flags":["UP"],"mtu":1500,"linkinfo":{"info_kind":"veth"},
"addr_info":[{"family":"inet","local":"172.30.0.11"}]},
{"ifindex":3,"ifname":"flannel.1","flags":[],"mtu":1450,"linkinfo":{"info_kind":"vxlan","info_data":{"id":1,"local":"172.30.0.11","port":8472}},
"addr_info":[{"family":"inet","local":"10.244.0.0"}]},
{"ifindex":5,"ifname":"cni0","mtu":1450,"linkinfo":{"info_kind":"bridge","info_data":{}},"addr_info":[{"local":"fd00:10:244::1"}]},
{"ifindex":6,"ifname":"veth24fee6ba","mtu":1450,"master":"cni0","linkinfo":{"info_kind":"veth","info_slave_kind":"bridge"},"addr_info":[]},
{"ifindex":7,"ifname":"sriov0","mtu":9000,"addr_info":[{}]}]"""
LINKS = {
    1: Link(1, "lo", 65536, (parse("127.0.0.1"), parse("::1")), loopback=True),
    2: Link(2, "eth0", 1500, (parse("172.30.0.11"),), "veth"),
    3: Link(3, "flannel.1", 1450, (parse("10.244.0.0"),), "vxlan", vni=1, vxlan_port=8472),
    5: Link(5, "cni0", 1450, (parse("fd00:10:244::1"),), "bridge"),
    6: Link(6, "veth24fee6ba", 1450, (), "veth", "cni0"),
    7: Link(7, "sriov0", 9000),
}


@pytest.mark.parametrize("content", [TEXT, JSON], ids=["text", "json"])
def test_both_forms_give_the_same_links(content: bytes) -> None:
    assert read_links(content) == LINKS


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"[", b"[]", b"{}", b"[1]", b'[{"ifindex":-1,"ifname":"x"}]', b"not found"])
def test_what_is_no_list_of_links_gives_none(content: bytes) -> None:
    assert read_links(content) == {}


@given(st.sampled_from([TEXT, JSON]), st.data())
def test_a_cut_list_gives_the_links_before_the_cut(content: bytes, data: st.DataObject) -> None:
    links = read_links(content[: data.draw(st.integers(0, len(content)))])
    assert list(links) == list(LINKS)[: len(links)]
    assert all(links[index] == LINKS[index] for index in list(links)[:-1])
    for index in list(links)[-1:]:  # its later lines may be missing, what is there is true
        assert links[index].name == LINKS[index].name
        assert set(links[index].addresses) <= set(LINKS[index].addresses)
        assert links[index].kind in (None, LINKS[index].kind)
        assert links[index].vni in (None, LINKS[index].vni)


@given(st.binary(max_size=101), st.integers(0, len(TEXT)))
def test_odd_content_never_raises(garbage: bytes, at: int) -> None:
    read_links(garbage)
    read_links(TEXT[:at] + garbage + TEXT[at:])
    read_links(b"[" + garbage)
    read_links(JSON[: at % len(JSON)] + garbage + JSON[at % len(JSON) :])
