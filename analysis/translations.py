"""Translations as records: what each rewrote, and what the node's rules and kernel say of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from analysis.ends import Ends, same_end
from probes.decode.numbers import ICMP, ICMPV6, PROTOCOL_NAMES
from probes.schema import Array, Table
from tracer import evidence
from tracer.rules import ProxyRules
from tracer.trace import Trace

Record = dict[str, Any]


class TranslationRecords:
    """The rows of TRANSLATIONS as records."""

    def __init__(self, trace: Trace, ends: Ends) -> None:
        self._trace, self._ends = trace, ends
        self._rule_paths: dict[tuple[int, str, str, str], Record | None] = {}  # the same for every connection of a client to a Service

    def records(self, first: int, end: int) -> list[Record]:
        """The translations of rows `first` to `end`."""
        tables, ends = self._trace.tables, self._ends
        table = {name: column[first:end] for name, column in tables.translations.items()}
        before, after = table["before"], table["after"]
        ends.learn(np.concatenate([before, after]))
        columns = (before, after, table["node"], table["evidence"], *_rewritten(tables.tuples, before, after))
        found = []
        for one, other, node, bits, dnat, snat in zip(*(column.tolist() for column in columns), strict=True):
            record = {
                "node": tables.nodes[node], "before": f"{ends.src[one]} > {ends.dst[one]}",
                "after": f"{ends.src[other]} > {ends.dst[other]}", "kinds": ["dnat"] * dnat + ["snat"] * snat,
                "evidence": evidence.names(bits), "rules": self._rules(node, one, other),
            }  # fmt: skip
            found.append(record)
        for row in self._trace.evaluations.keys() & range(first, end):
            found[row - first] |= self._evaluation(row)
        return found

    def _evaluation(self, row: int) -> Record:
        """What the kernel's functions took of a first packet's translation, where they were measured."""
        calls = self._trace.evaluations[row]
        evaluated = [call.inside_ns for call in calls if call.evaluates]
        return {
            "evaluation_ns": sum(evaluated) if evaluated else None,
            "calls": [
                {
                    "function": call.step.function, "hook": call.step.hook, "type": call.step.type, "table": call.step.table,
                    "chain": call.step.chain, "depth": call.depth, "time_ns": call.time_ns, "inside_ns": call.inside_ns,
                }
                for call in calls
            ],
        }  # fmt: skip

    def _rules(self, node: int, before: int, after: int) -> Record | None:
        """What kube-proxy's rules of the node say of this translation; None without a dump, or where they do not have it."""
        rules, ends = self._trace.bundle.rules.get(self._trace.tables.nodes[node]), self._ends
        if rules is None or ends.dst[before] == ends.dst[after]:
            return None
        memo = node, ends.src[before].rpartition(":")[0], ends.dst[before], ends.dst[after]
        if memo not in self._rule_paths:
            self._rule_paths[memo] = self._walk(rules, before, after)
        return self._rule_paths[memo]

    def _walk(self, rules: ProxyRules, before: int, after: int) -> Record | None:
        tuples = self._trace.tables.tuples
        address, target, source = (
            (int(tuples[f"{side}_hi"][code]), int(tuples[f"{side}_lo"][code]))
            for side, code in (("dst", before), ("dst", after), ("src", before))
        )
        port, protocol = int(tuples["dport"][before]), PROTOCOL_NAMES.get(int(tuples["proto"][before]), "")
        endpoint = target, int(tuples["dport"][after])
        path = rules.service_path(address, port, protocol, endpoint, source=source)
        path = path or rules.node_port_path(port, protocol, endpoint, source=source, ipv6=address[0] != 0)
        return (
            None
            if path is None
            else {"mode": rules.mode, "service": path.service, "chains": list(path.chains), "walked": path.rules_walked}
        )


def _rewritten(tuples: Table, before: Array, after: Array) -> tuple[Array, Array]:
    """Whether each translation rewrote the destination, and the source.

    An ICMP echo's identifier stands as the port of both ends and is the source's.
    """
    dnat, snat = (~same_end(tuples, before, side, after, side) for side in ("dst", "src"))
    elsewhere = (tuples["dst_hi"][before] != tuples["dst_hi"][after]) | (tuples["dst_lo"][before] != tuples["dst_lo"][after])
    return np.where(np.isin(tuples["proto"][before], (ICMP, ICMPV6)), elsewhere, dnat), snat


def undone(steps: Iterable[Record], before: Record, hop: Record) -> list[str]:
    """Which kinds of translation an answer leaves behind between two hops of one node, of those that `steps` made of its request.

    Its source changes where DNAT is undone, its destination where SNAT is.
    """
    made = {kind for step in steps for kind in step["kinds"]}
    return [kind for kind, end in (("dnat", "src"), ("snat", "dst")) if kind in made and before[end] != hop[end]]
