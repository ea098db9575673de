"""Ledger lines into entries: one row per conntrack entry of a node, with the tuple before, the tuple after, and how long it held.

A NEW event can be lost under load and every line is printed late, so UPDATE lines and dumps tell of an entry just as well; only a NEW line
tells when it began.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.schema import Array, Table, size
from tracer.schema import ENTRIES

DUMP, NEW, UPDATE, DESTROY = 0, 1, 2, 3
FOREVER_NS = np.iinfo("i8").max


def ledger_tuples(ledger: Table) -> tuple[Table, Table]:
    """`(before, after)`: each line's original tuple, and its reply tuple reversed, with the columns of `tracer.tuples.FIELDS`."""
    before = {name: ledger[f"original_{name}"] for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport")}
    after = {
        "src_hi": ledger["reply_dst_hi"], "src_lo": ledger["reply_dst_lo"], "dst_hi": ledger["reply_src_hi"],
        "dst_lo": ledger["reply_src_lo"], "sport": ledger["reply_dport"], "dport": ledger["reply_sport"],
    }  # fmt: skip
    return before | {"proto": ledger["proto"]}, after | {"proto": ledger["proto"]}


def entries(ledgers: Sequence[Table], nodes: Sequence[int], before: Sequence[Array], after: Sequence[Array]) -> Table:
    """The ENTRIES of several nodes' ledgers; `nodes[i]`, `before[i]` and `after[i]` belong to `ledgers[i]` (tuple codes per line)."""
    if not sum(size(ledger) for ledger in ledgers):
        return ENTRIES.empty()
    node = np.concatenate([np.full(size(ledger), code, "i4") for ledger, code in zip(ledgers, nodes, strict=True)])
    lines = {name: np.concatenate([ledger[name] for ledger in ledgers]) for name in ("time_ns", "start_ns", "id", "event")}
    ahead, behind = np.concatenate(before), np.concatenate(after)
    order = np.lexsort((np.arange(len(node)), lines["id"], behind, ahead, node))
    node, ahead, behind = node[order], ahead[order], behind[order]
    lines = {name: column[order] for name, column in lines.items()}
    new = np.ones(len(node), bool)
    new[1:] = (np.diff(node) != 0) | (np.diff(ahead) != 0) | (np.diff(behind) != 0) | (np.diff(lines["id"]) != 0)
    new |= (lines["event"] == NEW) & (lines["id"] < 0)  # without ids, each NEW begins an entry
    group = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    began = np.where(lines["event"] == NEW, lines["time_ns"], np.where(lines["start_ns"] >= 0, lines["start_ns"], FOREVER_NS))
    began_ns = np.full(len(first), FOREVER_NS, "i8")
    np.minimum.at(began_ns, group, began)
    ended_ns = np.full(len(first), -1, "i8")
    np.maximum.at(ended_ns, group, np.where(lines["event"] == DESTROY, lines["time_ns"], -1))
    table: Table = {
        "node": node[first], "before": ahead[first], "after": behind[first],
        "first_ns": np.where(began_ns == FOREVER_NS, -1, began_ns), "last_ns": np.where(ended_ns < 0, FOREVER_NS, ended_ns),
        "id": lines["id"][first],
    }  # fmt: skip
    return ENTRIES.check(_superseded(table))


def _superseded(table: Table) -> Table:
    """End an entry where a later one of the same node and original tuple begins: there is one at a time."""
    order = np.lexsort((table["first_ns"], table["before"], table["node"]))
    table = {name: column[order] for name, column in table.items()}
    followed = (np.diff(table["node"]) == 0) & (np.diff(table["before"]) == 0) & (table["first_ns"][1:] >= 0)
    at = np.flatnonzero(followed)
    table["last_ns"][at] = np.minimum(table["last_ns"][at], table["first_ns"][at + 1])
    return table
