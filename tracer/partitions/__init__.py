"""A bundle in parts that know nothing of each other: every connection is whole in one of them, so each can be traced by itself.

`links` tells which flows may be one connection, `components` puts those together and deals them out, `cut` and `split` cut tables
accordingly.
Nothing here reads files or runs processes.
"""

from tracer.partitions.components import Deal, deal
from tracer.partitions.cut import Cut
from tracer.partitions.links import Links, flow_hashes
from tracer.partitions.split import evidence_flows, lines_dealt, link_evidence, split_ledgers, split_sockets, with_rest

__all__ = [
    "Cut", "Deal", "Links", "deal", "evidence_flows", "flow_hashes", "lines_dealt", "link_evidence", "split_ledgers",
    "split_sockets", "with_rest",
]  # fmt: skip
