"""The output contract as JSON Schema (draft 2020-12): what `hopline trace --json` prints per line (docs/output.md explains it)."""

from __future__ import annotations

from typing import Any

from analysis.latency import SHARES
from tracer.status import STATUSES

Schema = dict[str, Any]

_NS: Schema = {"type": "integer"}
_MAYBE_NS: Schema = {"type": ["integer", "null"]}
_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_MAYBE_PORT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": 65535}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_OWNER = _object(
    {
        "address": _TEXT, "kind": {"enum": ["pod", "node", "service", "external", None]}, "namespace": _MAYBE_TEXT, "name": _MAYBE_TEXT,
        "node": _MAYBE_TEXT, "container": _MAYBE_TEXT, "container_port": _MAYBE_TEXT, "process": _TEXT,
    },
    ("container_port", "process"),
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
_CALL = _object(
    {
        "function": _TEXT, "hook": _MAYBE_TEXT, "type": _MAYBE_TEXT, "table": _MAYBE_TEXT, "chain": _MAYBE_TEXT,
        "depth": {"type": "integer"}, "time_ns": _NS, "inside_ns": _NS,
    }
)  # fmt: skip
_TRANSLATION = _object(
    {
        "node": _TEXT, "before": _TEXT, "after": _TEXT, "kinds": {"type": "array", "items": {"enum": ["dnat", "snat"]}}, "evidence": _TEXTS,
        "rules": _or_null(_RULES), "evaluation_ns": _MAYBE_NS, "calls": {"type": "array", "items": _CALL},
    },
    ("evaluation_ns", "calls"),
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

_RECORD: Schema = {
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
    "latency": _object({"total_ns": _MAYBE_NS, "network_ns": _MAYBE_NS, "server_ns": _MAYBE_NS, "uncertainty_ns": _MAYBE_NS}),
    "evidence": _TEXTS, "parent_evidence": _TEXTS, "confidence": _SHARE, "candidates": {"type": "array", "items": _TUPLE},
    "last_seen_at": _MAYBE_TEXT, "refusal": _or_null(_REFUSAL), "verdict": _or_null(_VERDICT), "problems": _TEXTS,
}  # fmt: skip
_INGRESS = _object(
    {
        "kind": {"enum": ["Ingress", "HTTPRoute", "GRPCRoute"]}, "namespace": _TEXT, "name": _TEXT, "host": _MAYBE_TEXT,
        "path": _MAYBE_TEXT, "path_type": _MAYBE_TEXT, "service": _MAYBE_TEXT, "agrees": {"type": ["boolean", "null"]},
    }
)  # fmt: skip
_PART = _object(
    {
        "kind": {"enum": ["dns", "connect", "tls", "login", "request-network", "server", "response-network", "nat", "retransmission"]},
        "node": _MAYBE_TEXT, "start_ns": _NS, "end_ns": _NS, "uncertainty_ns": _MAYBE_NS, "separable": {"type": "boolean"},
        "first_packet": {"type": "boolean"},
    },
    ("first_packet",),
)  # fmt: skip
_LATENCY = _object(
    {
        "total_ns": _MAYBE_NS, "network_ns": _MAYBE_NS, "server_ns": _MAYBE_NS, "self_ns": _MAYBE_NS, "uncertainty_ns": _MAYBE_NS,
        "shares": _or_null(_object(dict.fromkeys(SHARES, _NS))), "parts": {"type": "array", "items": _PART},
    }
)  # fmt: skip
_REQUEST: Schema = {
    "connection": _TEXT, "status": _TEXT, "ingress": _or_null(_INGRESS), "latency": _LATENCY, "host": _MAYBE_TEXT,
    "hops": {"type": "array", "items": _object(_HOP["properties"] | {"separable": {"type": ["boolean", "null"]}})},
    "tls": _or_null(_object({"server_name": _MAYBE_TEXT, "alpn": _MAYBE_TEXT, "version": _MAYBE_TEXT})),
    "true_client": _or_null(_object({"address": _TEXT, "source": _TEXT})), "tries": {"type": "integer", "minimum": 1},
    "bytes": _object({"request": _MAYBE_NS, "response": _MAYBE_NS}), "parent_confidence": {"anyOf": [_SHARE, {"type": "null"}]},
    "parent_candidates": {"type": "array", "items": _object({"id": _TEXT, "confidence": _SHARE})}, "unread": _MAYBE_TEXT,
}  # fmt: skip

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hopline connection record, as `hopline trace --l4-only --json`",
    **_object(_RECORD),
}  # fmt: skip
REQUEST_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hopline request record, as `hopline trace --json`",
    **_object(_RECORD | _REQUEST),
}  # fmt: skip
