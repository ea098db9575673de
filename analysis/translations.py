"""Translations as JSON: what each rewrote, and what the node's rules and kernel say of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.ends import Ends
from analysis.text_columns import alike, behind_first, evidence_texts, some
from probes.decode.numbers import ICMP, ICMPV6, PROTOCOL_NAMES
from probes.schema import Array, Table
from probes.text_rows import Rows, Texts, text_rows
from tracer.trace import Trace

if TYPE_CHECKING:
    from tracer.rules import ProxyRules

Record = dict[str, Any]


class TranslationTexts:
    """The rows of TRANSLATIONS as JSON."""

    def __init__(self, trace: Trace, ends: Ends) -> None:
        self._trace, self._ends = trace, ends
        self._nodes = [f'{{"node": {json.dumps(node)}, "before": "' for node in trace.tables.nodes]

    def texts(self, first: int, end: int) -> Rows:
        """Rows `first` to `end`; each has a comma before it that is not the first of its connection."""
        tables, ends = self._trace.tables, self._ends
        table = {name: column[first:end] for name, column in tables.translations.items()}
        before, after, bits = table["before"], table["after"], table["evidence"]
        dnat, snat = _rewritten(tables.tuples, ends, before, after)
        kinds = [f'", "kinds": {json.dumps(["dnat"] * one + ["snat"] * other)}, "evidence": ' for other in (0, 1) for one in (0, 1)]
        measured = dict.fromkeys(self._trace.evaluations.keys() & range(first, end))
        return text_rows(
            len(before),
            [
                behind_first(table["connection"]), (self._nodes, table["node"]), *ends.columns("src", before), " > ",
                *ends.columns("dst", before), '", "after": "', *ends.columns("src", after), " > ", *ends.columns("dst", after),
                (kinds, dnat + 2 * snat), evidence_texts(bits), ', "rules": ', self._rules(table["node"], before, after),
                some(len(before), {row - first: self._evaluation(row) for row in measured}, "}"),
            ],
        )  # fmt: skip

    def _evaluation(self, row: int) -> str:
        """What the kernel's functions took of a first packet's translation, where they were measured, and the end of its text."""
        calls = self._trace.evaluations[row]
        evaluated = [call.inside_ns for call in calls if call.evaluates]
        told = {
            "evaluation_ns": sum(evaluated) if evaluated else None,
            "calls": [
                {
                    "function": call.step.function, "hook": call.step.hook, "type": call.step.type, "table": call.step.table,
                    "chain": call.step.chain, "depth": call.depth, "time_ns": call.time_ns, "inside_ns": call.inside_ns,
                }
                for call in calls
            ],
        }  # fmt: skip
        return f", {json.dumps(told)[1:]}"

    def _rules(self, node: Array, before: Array, after: Array) -> Texts:
        """What kube-proxy's rules of the node say of each; null without a dump, or where they do not have it.

        It is the same for every connection of a client to a Service and an endpoint.
        """
        tables, rules = self._trace.tables, [self._trace.bundle.rules.get(name) for name in self._trace.tables.nodes]
        ruled = np.array([each is not None for each in rules])[node] & ~self._ends.same(before, "dst", after, "dst")
        which = np.full(len(node), -1)
        node, before, after = node[ruled], before[ruled], after[ruled]
        ends = [tables.tuples[name][before] for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "dport", "proto")]
        ends += [tables.tuples[name][after] for name in ("dst_hi", "dst_lo", "dport")]

        def told(row: int) -> str:
            walked = rules[node[row]]
            return json.dumps(None if walked is None else self._walk(walked, int(before[row]), int(after[row])))

        texts, which[ruled] = alike([node, *ends], told)
        return [*texts, "null"], np.where(which < 0, len(texts), which)

    def _walk(self, rules: ProxyRules, before: int, after: int) -> Record | None:
        tuples = self._trace.tables.tuples
        address, target, source = (
            (int(tuples[f"{side}_hi"][code]), int(tuples[f"{side}_lo"][code]))
            for side, code in (("dst", before), ("dst", after), ("src", before))
        )
        port, protocol = int(tuples["dport"][before]), PROTOCOL_NAMES.get(int(tuples["proto"][before]), "")
        endpoint = target, int(tuples["dport"][after])
        path = rules.service_path(address, port, protocol, endpoint, source=source, or_node_port=True)
        return (
            None
            if path is None
            else {"mode": rules.mode, "service": path.service, "chains": list(path.chains), "walked": path.rules_walked}
        )


def _rewritten(tuples: Table, ends: Ends, before: Array, after: Array) -> tuple[Array, Array]:
    """Whether each translation rewrote the destination, and the source.

    An ICMP echo's identifier stands as the port of both ends and is the source's.
    """
    dnat, snat = (~ends.same(before, side, after, side) for side in ("dst", "src"))
    elsewhere = (tuples["dst_hi"][before] != tuples["dst_hi"][after]) | (tuples["dst_lo"][before] != tuples["dst_lo"][after])
    return np.where(np.isin(tuples["proto"][before], (ICMP, ICMPV6)), elsewhere, dnat), snat


def undone(steps: Iterable[Record], before: Record, hop: Record) -> list[str]:
    """Which kinds of translation an answer leaves behind between two hops of one node, of those that `steps` made of its request.

    Its source changes where DNAT is undone, its destination where SNAT is.
    """
    made = {kind for step in steps for kind in step["kinds"]}
    return [kind for kind, end in (("dnat", "src"), ("snat", "dst")) if kind in made and before[end] != hop[end]]
