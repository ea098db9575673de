"""What the socket filter lets through, as its maps have it: prefixes, ports, endpoints, and a share of the connections."""

from __future__ import annotations

import ctypes
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

BY_NET, BY_PORT, BY_ENDPOINT, TRACK = 1, 2, 4, 8
KEEP_ALL = 1 << 32
PAYLOAD_BYTES = 1024  # the first lines of any request and answer, with room for cookies and tokens
MAX_PAYLOAD_BYTES = 3500

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which packets, and how much of each. Conditions of one kind are alternatives, those of different kinds must all hold.

    A condition holds where either end of the packet fits, or of the packet inside it that a tunnel carries or an ICMP error is about. A
    Service is its addresses before and after NAT (`endpoints`), so that both sides are seen. `share` of the connections are kept (0 to 1),
    the same ones on every node and behind every NAT that has the same `seed`.
    """

    nets: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    payload_bytes: int = PAYLOAD_BYTES
    share: float = 1.0
    seed: int = 0
    may_shed: bool = False  # the share may be lowered while recording, so connections are remembered from the start

    @property
    def tracks(self) -> bool:
        """Whether connections must be remembered."""
        return self.may_shed or self.share < 1

    @property
    def conditions(self) -> int:
        """The bits that the socket filter goes by."""
        told = ((BY_NET, self.nets), (BY_PORT, self.ports), (BY_ENDPOINT, self.endpoints), (TRACK, self.tracks))
        return sum(bit for bit, given in told if given)

    def in_words(self) -> str | None:
        """For the file's header (if_filter); None where nothing is left out."""
        told = [f"net {net}" for net in self.nets] + [f"port {port}" for port in self.ports]
        told += [f"endpoint {address} port {port}" for address, port in self.endpoints[:20]]
        told += [f"… {len(self.endpoints) - 20} endpoints more"] if len(self.endpoints) > 20 else []
        told += [f"{self.share:g} of the connections, seed {self.seed}"] if self.share < 1 else []
        return "; ".join(told) or None


class Settings(ctypes.Structure):
    """As `struct settings` in packets.c."""

    _fields_: ClassVar = [
        ("keep_below", ctypes.c_uint64),
        ("seed", ctypes.c_uint32),
        ("payload_bytes", ctypes.c_uint32),
    ]


def address_bytes(address: str) -> bytes:
    """16 bytes, IPv4 mapped into IPv6."""
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def apply(selection: Selection, table: Callable[[str], Any]) -> None:
    """Fill the maps of a program, which `table` gives by name."""
    for net in selection.nets:
        network = ipaddress.ip_network(net, strict=False)
        table_ = table("nets")
        key = table_.Key()
        key.length = network.prefixlen + (96 if network.version == 4 else 0)
        key.address[:] = list(address_bytes(str(network.network_address)))
        table_[key] = table_.Leaf(1)
    for port in selection.ports:
        table("ports")[ctypes.c_uint16(port)] = ctypes.c_uint8(1)
    for address, port in selection.endpoints:
        table_ = table("endpoints")
        key = table_.Key()
        key.address[:] = list(address_bytes(address))
        key.port = port
        table_[key] = table_.Leaf(1)
    set_share(selection, selection.share, table)


def set_share(selection: Selection, share: float, table: Callable[[str], Any]) -> None:
    """Keep `share` of the connections from now on."""
    keep_below = min(KEEP_ALL, int(share * KEEP_ALL))
    payload = min(selection.payload_bytes, MAX_PAYLOAD_BYTES)
    settings = Settings(keep_below, selection.seed & 0xFFFF_FFFF, payload)
    table("settings")[ctypes.c_int(0)] = settings
