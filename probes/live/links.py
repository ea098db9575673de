"""Interfaces of a network namespace over rtnetlink: their names and link types, and the text that a bundle keeps of them."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute

# ARPHRD_… (include/uapi/linux/if_arp.h) of links with an Ethernet header; what has another type is taken to begin with the IP header.
ETHERNET_LIKE = frozenset((1, 772))  # ETHER, LOOPBACK
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101
ETHERNET_BYTES = 14


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as packets of it are written."""

    index: int
    name: str
    link_type: int = LINKTYPE_ETHERNET

    @property
    def header_bytes(self) -> int:
        """Of the link layer, before the network header."""
        return ETHERNET_BYTES if self.link_type == LINKTYPE_ETHERNET else 0


class Links:
    """The interfaces of the network namespace that this thread is in now; asks the kernel when told to, and keeps nothing open."""

    def __init__(self) -> None:
        self._route = IPRoute()

    def interfaces(self) -> list[Interface]:
        """All there are now."""
        return [Interface(link["index"], link.get("ifname") or f"if{link['index']}", _link_type(link)) for link in self._route.get_links()]

    def text(self) -> str:
        """What `ip -d -j addr` prints of them, as far as `probes.links` reads it."""
        addresses: dict[int, list[dict[str, Any]]] = {}
        for entry in self._route.get_addr():
            local = entry.get("local") or entry.get("address")
            family = "inet" if entry["family"] == socket.AF_INET else "inet6"
            addresses.setdefault(entry["index"], []).append({"family": family, "local": local, "prefixlen": entry["prefixlen"]})
        links = list(self._route.get_links())
        names = {link["index"]: link.get("ifname") for link in links}
        return json.dumps([_as_iproute2(link, names, addresses.get(link["index"], [])) for link in links], indent=1) + "\n"

    def close(self) -> None:
        """Close the netlink socket."""
        self._route.close()


def _link_type(link: Any) -> int:
    return LINKTYPE_ETHERNET if link["ifi_type"] in ETHERNET_LIKE else LINKTYPE_RAW


def _as_iproute2(link: Any, names: dict[int, Any], addresses: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ifindex": link["index"], "ifname": link.get("ifname"), "mtu": link.get("mtu"),
        "flags": ["LOOPBACK"] if link["flags"] & 8 else [], "address": link.get("address"), "addr_info": addresses,
    }  # fmt: skip
    if link.get("master"):
        told["master"] = names.get(link.get("master"))
    if link.get("link") and link.get("link_netnsid") is None:
        told["link"] = names.get(link.get("link"))
    info = link.get("linkinfo")
    if info and info.get("kind"):
        told["linkinfo"] = {"info_kind": info.get("kind")}
        known = info.get("data")
        if info.get("kind") == "vxlan" and known:
            told["linkinfo"]["info_data"] = {"id": known.get("vxlan_id"), "port": known.get("vxlan_port")}
    return told
