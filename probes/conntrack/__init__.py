"""The ledger: what conntrack and IPVS wrote down about translations, as tables with `probes.schema.LEDGER`.

`read_ledger` takes what people save (`conntrack -L`, `conntrack -E`, /proc/net/nf_conntrack, our own JSON lines), `read_netlink` a capture
of the kernel's own messages, `read_ip_vs_conn` takes /proc/net/ip_vs_conn. Import these from here, not from the modules beside this one.
Opening files happens elsewhere.
"""

from __future__ import annotations

from probes.conntrack.ipvs import read_ip_vs_conn
from probes.conntrack.jsonl import read_jsonl, write_jsonl
from probes.conntrack.netlink import read_netlink, remark
from probes.conntrack.text import read_text
from probes.schema import Problem, Table

__all__ = ["read_ip_vs_conn", "read_ledger", "read_netlink", "remark", "write_jsonl"]


def read_ledger(content: bytes, file: str) -> tuple[Table, list[Problem]]:
    """The LEDGER rows of one file's (decompressed) content, in file order, and what could not be read of it.

    Never raises on content: unreadable lines are counted in one Problem (offset: the first one's line number), everything else is used.
    """
    read = read_jsonl if content.lstrip()[:1] == b"{" else read_text
    return read(content, file)
