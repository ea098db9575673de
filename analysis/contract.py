"""The output contract as JSON Schema (draft 2020-12): what `hopline trace --json` prints per line. docs/output.md explains it."""

from __future__ import annotations

from typing import Any

from tracer.status import STATUSES

Schema = dict[str, Any]

_NS: Schema = {"type": "integer"}
_MAYBE_NS: Schema = {"type": ["integer", "null"]}
_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_MAYBE_PORT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": 65535}
_TEXTS: Schema = {"type": "array", "items": _TEXT}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_OWNER = _object(
    {
        "address": _TEXT, "kind": {"enum": ["pod", "node", "service", "external", None]}, "namespace": _MAYBE_TEXT, "name": _MAYBE_TEXT,
        "node": _MAYBE_TEXT, "container": _MAYBE_TEXT, "container_port": _MAYBE_TEXT,
    },
    ("container_port",),
)  # fmt: skip
_TUPLE = _object({"proto": _TEXT, "src": _TEXT, "dst": _TEXT})
_SERVICE = _object(
    {
        "namespace": _MAYBE_TEXT, "name": _MAYBE_TEXT, "port": _MAYBE_TEXT,
        "via": {"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP", "Headless", "ExternalName", "direct"]},
        "port_name": _MAYBE_TEXT, "type": _MAYBE_TEXT,
    },
    ("port_name", "type"),
)  # fmt: skip
_RULES = _object({"mode": _MAYBE_TEXT, "service": _MAYBE_TEXT, "chains": _TEXTS, "walked": {"type": "integer"}})
_TRANSLATION = _object(
    {
        "node": _TEXT, "before": _TEXT, "after": _TEXT, "kinds": {"type": "array", "items": {"enum": ["dnat", "snat"]}}, "evidence": _TEXTS,
        "rules": _or_null(_RULES),
    }
)  # fmt: skip
_TUNNEL = _object({"kind": {"enum": ["vxlan", "geneve", "ipip", "gre"]}, "id": {"type": "integer"}, "src": _TEXT, "dst": _TEXT})
_HOP = _object(
    {
        "node": _TEXT, "interface": _TEXT, "direction": {"enum": ["in", "out", "unknown"]}, "path": {"enum": ["request", "reply"]},
        "src": _TEXT, "dst": _TEXT, "tunnel": _or_null(_TUNNEL), "port_kind": {"enum": ["nodePort", "port", "containerPort", None]},
        "time_ns": _NS, "offset_ns": _MAYBE_NS, "latency_ns": _MAYBE_NS, "uncertainty_ns": _MAYBE_NS, "file": _TEXT,
        "frame": {"type": "integer", "minimum": 1},
    }
)  # fmt: skip
_LOSS = _object(
    {
        "path": {"enum": ["request", "reply"]}, "seq": {"type": "integer"}, "time_ns": _NS, "sent_again_after_ns": _NS,
        "last_seen_at": _MAYBE_TEXT, "first_missed_at": _MAYBE_TEXT,
    }
)  # fmt: skip

_REFUSAL = _object({"kind": _TEXT, "from": _TEXT, "at": _TEXT, "time_ns": _NS})
_VERDICT = _object({"node": _TEXT, "mode": _MAYBE_TEXT, "verdict": {"enum": ["reject", "drop"]}, "service": _MAYBE_TEXT, "chains": _TEXTS})

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "hopline trace record",
    **_object(
        {
            "id": _TEXT, "parent": _MAYBE_TEXT, "trace": _TEXT, "protocol": _TEXT, "operation": _MAYBE_TEXT,
            "status": {"enum": list(STATUSES)}, "start_ns": _NS, "end_ns": _NS, "client": _or_null(_OWNER), "server": _or_null(_OWNER),
            "service": _or_null(_SERVICE), "ingress": {"type": "null"}, "original": _or_null(_TUPLE), "translated": _or_null(_TUPLE),
            "ports": _object(
                {
                    "node_port": _MAYBE_PORT, "port": _MAYBE_PORT, "target_port": {"type": ["string", "integer", "null"]},
                    "container_port": _MAYBE_PORT, "container": _MAYBE_TEXT,
                }
            ),
            "policies": {
                "type": "array",
                "items": _object({"name": _TEXT, "value": _TEXT, "held": {"type": "boolean"}, "why": _TEXT}),
            },
            "translations": {"type": "array", "items": _TRANSLATION}, "hops": {"type": "array", "items": _HOP},
            "packets": _object({"original": {"type": "integer"}, "reply": {"type": "integer"}}), "handshake_ns": _MAYBE_NS,
            "retransmissions": {"type": "integer"}, "losses": {"type": "array", "items": _LOSS},
            "latency": _object({"total_ns": _NS, "network_ns": _MAYBE_NS, "server_ns": _MAYBE_NS, "uncertainty_ns": _MAYBE_NS}),
            "evidence": _TEXTS, "parent_evidence": _TEXTS, "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "candidates": {"type": "array", "items": _TUPLE}, "last_seen_at": _MAYBE_TEXT,
            "refusal": _or_null(_REFUSAL), "verdict": _or_null(_VERDICT), "problems": _TEXTS,
        }
    ),
}  # fmt: skip
