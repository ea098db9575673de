"""Network interfaces of a node, from `ip -d addr` or `ip -j addr`: names for the interface indexes that captures carry.

Other output may follow in the same file (routes, `bridge fdb`): what is no interface is passed over.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from probes import addresses
from probes.addresses import Address


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as the kernel knows it; None where the text does not tell.

    `index` is the ifindex, `mtu` in bytes, `addresses` are (hi, lo) pairs as in `probes.addresses`, `kind` is the kernel's IFLA_INFO_KIND
    ("bridge", "veth", "vxlan"…; None for hardware and loopback), `master` the name of the bridge or bond it belongs to. `vni` and
    `vxlan_port` (UDP) are set for VXLAN alone; `vni` is None for a device in external mode.
    """

    index: int
    name: str
    mtu: int | None = None
    addresses: tuple[Address, ...] = ()
    kind: str | None = None
    master: str | None = None
    vni: int | None = None
    vxlan_port: int | None = None
    loopback: bool = False


_FIRST_LINE = re.compile(r"(\d{1,9}): ([^\s:@]+)(?:@\S+)?: <([^>]*)>(.*)")  # `2: eth0@if6: <FLAGS> mtu 1500 … master cni0 …`
_ADDRESS = re.compile(r"\s+inet6? ([0-9a-fA-F.:]+)")
_PAIR = re.compile(r"\b(mtu|master) (\S+)")
_VNI = re.compile(r"\bvxlan id (\d{1,8})\b")
_PORT = re.compile(r"\bdstport (\d{1,5})\b")
# What iproute2 prints first on the line of a link's details, by `struct link_util.id` (ip/iplink_*.c). A port's own details
# (`bridge_slave …`) stand on another line.
# fmt: off
_KINDS = frozenset((
    "amt", "bareudp", "batadv", "bond", "bridge", "can", "dummy", "erspan", "geneve", "gre", "gretap", "gtp", "hsr", "ifb",
    "ip6erspan", "ip6gre", "ip6gretap", "ip6tnl", "ipip", "ipoib", "ipvlan", "ipvtap", "macsec", "macvlan", "macvtap",
    "netdevsim", "netkit", "nlmon", "ovpn", "rmnet", "sit", "team", "tun", "vcan", "veth", "vlan", "vrf", "vti", "vti6", "vxcan",
    "vxlan", "wireguard", "wwan", "xfrm",
))
# fmt: on


@dataclass(slots=True)
class _Open:
    """A link whose lines are still being read."""

    link: Link
    addresses: list[Address] = field(default_factory=list)

    def closed(self) -> Link:
        return replace(self.link, addresses=tuple(self.addresses))


def _detail(link: Link, line: str) -> Link:
    """The link with what a line of `ip -d`'s details says."""
    kind = line.split(maxsplit=1)[0]
    if kind not in _KINDS or link.kind is not None:
        return link
    if kind != "vxlan":
        return replace(link, kind=kind)
    vni, port = _VNI.search(line), _PORT.search(line)
    return replace(link, kind=kind, vni=int(vni[1]) if vni else None, vxlan_port=int(port[1]) if port else None)


def _first(match: re.Match[str]) -> Link:
    pairs = dict(_PAIR.findall(match[4]))
    mtu = pairs.get("mtu", "")
    flags = match[3].split(",")
    return Link(int(match[1]), match[2], int(mtu) if mtu.isdecimal() else None, master=pairs.get("master"), loopback="LOOPBACK" in flags)


def _parsed(text: str) -> Address | None:
    try:
        return addresses.parse(text)
    except ValueError:
        return None


def _read_text(text: str) -> dict[int, Link]:
    whole = text if text.endswith("\n") else text[: text.rfind("\n") + 1]  # a cut last line may hold half a number or a name
    links: dict[int, Link] = {}
    current: _Open | None = None
    for line in whole.splitlines():
        if first := _FIRST_LINE.match(line):
            current = _Open(_first(first))
        elif current is None or not line.strip():
            continue
        elif not line[0].isspace():
            current = None  # other output begins
            continue
        elif address := _ADDRESS.match(line):
            if (parsed := _parsed(address[1])) is not None:
                current.addresses.append(parsed)
        else:
            current.link = _detail(current.link, line)
        links[current.link.index] = current.closed()
    return links


def _number(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _from_json(entry: dict[str, Any]) -> Link | None:
    index, name = _number(entry.get("ifindex")), _text(entry.get("ifname"))
    if index is None or name is None:
        return None
    details = _mapping(entry.get("linkinfo"))
    vxlan = _mapping(details.get("info_data")) if details.get("info_kind") == "vxlan" else {}
    locals_ = (_text(_mapping(info).get("local")) for info in _list(entry.get("addr_info")))
    parsed = (_parsed(text) for text in locals_ if text is not None)
    return Link(
        index,
        name,
        _number(entry.get("mtu")),
        tuple(address for address in parsed if address is not None),
        _text(details.get("info_kind")),
        _text(entry.get("master")),
        _number(vxlan.get("id")),
        _number(vxlan.get("port")),
        "LOOPBACK" in _list(entry.get("flags")) or entry.get("link_type") == "loopback",
    )


def _read_json(text: str) -> dict[int, Link]:
    """The links of a JSON array, also of one that is cut: the elements before the cut are whole."""
    decoder = json.JSONDecoder()
    links: dict[int, Link] = {}
    at = text.index("[") + 1
    while (start := text.find("{", at)) >= 0:
        try:
            entry, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        if (link := _from_json(entry)) is not None:
            links[link.index] = link
    return links


def read_links(content: bytes) -> dict[int, Link]:
    """Links by ifindex, from `ip addr` (with or without -d; `kind` and VXLAN need -d) or `ip -j addr`.

    Cut or odd content never raises; what can be read is returned. Of an interface listed twice, the last counts.
    """
    text = content.decode("utf-8", "replace")
    return _read_json(text) if text.lstrip().startswith("[") else _read_text(text)
