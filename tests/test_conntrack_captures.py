"""What conntrack and IPVS really printed, while the recorded captures were made."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from probes import addresses
from probes.conntrack import read_ip_vs_conn, read_ledger
from probes.links import read_links
from probes.schema import size

CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[2] / "shared" / "captures")
pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no recorded captures at {CAPTURES} (set HOPLINE_CAPTURES)")


def content_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def recorded(pattern: str) -> list[Path]:
    return sorted(CAPTURES.glob(f"*/*/{pattern}"))


def naive(line: str) -> tuple[str, ...]:
    """The eight ends of a line, by nothing but splitting it."""
    pairs = [word.split("=") for word in line.split() if word.startswith(("src=", "dst=", "sport=", "dport="))]
    return tuple(value for _, value in pairs)


@pytest.mark.parametrize("path", recorded("node-*.conntrack-*"), ids=lambda path: "/".join(path.parts[-3:]))
def test_every_recorded_line_is_read(path: Path) -> None:
    content = content_of(path)
    table, problems = read_ledger(content, path.name)
    assert problems == []
    lines = content.decode().splitlines()
    assert size(table) == len(lines)
    columns = [
        [addresses.text(hi, lo) for hi, lo in zip(table[f"{name}_hi"].tolist(), table[f"{name}_lo"].tolist(), strict=True)]
        for name in ("original_src", "original_dst", "reply_src", "reply_dst")
    ]
    ports = [table[f"{side}_{port}"].astype(str).tolist() for side in ("original", "reply") for port in ("sport", "dport")]
    for number in range(0, len(lines), 23):
        (src, dst, reply_src, reply_dst), (sport, dport, reply_sport, reply_dport) = (
            [column[number] for column in ends] for ends in (columns, ports)
        )
        expected = naive(lines[number])
        assert expected in {(src, dst, sport, dport, reply_src, reply_dst, reply_sport, reply_dport), (src, dst, reply_src, reply_dst)}
        assert str(table["id"][number]) == lines[number].rpartition("id=")[2]
        assert bool(table["flags"][number] & 2) == ("[ASSURED]" in lines[number])


@pytest.mark.parametrize("path", recorded("node-*.ip_vs_conn.txt"), ids=lambda path: "/".join(path.parts[-3:]))
def test_every_recorded_ipvs_connection_is_read(path: Path) -> None:
    content = path.read_bytes()
    table, problems = read_ip_vs_conn(content, path.name)
    assert problems == []
    entries = [line.split() for line in content.splitlines() if line.startswith((b"TCP ", b"UDP "))]
    assert size(table) == sum(entry[2] != b"0000" for entry in entries)
    assert (table["time_ns"] > 0).all()


@pytest.mark.parametrize("path", recorded("node-*.links.txt"), ids=lambda path: "/".join(path.parts[-3:]))
def test_every_recorded_node_has_its_bridge_tunnel_and_veths(path: Path) -> None:
    links = {link.name: link for link in read_links(path.read_bytes()).values()}
    assert links["lo"].loopback
    assert links["cni0"].kind == "bridge"
    assert (links["flannel.1"].vni, links["flannel.1"].vxlan_port) == (1, 8472)
    veths = [link for link in links.values() if link.master == "cni0"]
    assert veths
    assert {link.kind for link in veths} == {"veth"}
