"""DNS over UDP and TCP (RFC 1035)."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import REQUEST, RESPONSE, Message, one
from probes.dissect.pdml import Layer

TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 64: "SVCB", 65: "HTTPS", 255: "ANY"}
FIELDS = r"dns\.(?:a|aaaa|cname|flags\.(?:rcode|response|truncated)|id|qry\.(?:name|type))"
CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")  # RFC 1035, 4.1.1


def read(layer: Layer) -> Iterator[Message]:
    """A query or its answer, whose key is the transaction id; `addresses` and `cnames` of an answer are what it resolved to."""
    fields = layer.fields
    identifier, answers = one(fields, "dns.id"), one(fields, "dns.flags.response")
    if identifier is None or answers is None:
        return
    key = int(identifier, 0)
    if answers in ("0", "False"):
        name, kind = one(fields, "dns.qry.name"), one(fields, "dns.qry.type")
        number = int(kind, 0) if kind else 0
        attributes = {"qname": name or "", "qtype": TYPES.get(number, str(number))}
        yield Message(REQUEST, key, operation=f"{attributes['qtype']} {attributes['qname']}", attributes=attributes)
        return
    code = int(one(fields, "dns.flags.rcode") or 0)
    attributes = {"truncated": "yes"} if one(fields, "dns.flags.truncated") in ("1", "True") else {}
    if addresses := fields.get("dns.a", []) + fields.get("dns.aaaa", []):
        attributes["addresses"] = " ".join(addresses)
    if names := fields.get("dns.cname", []):
        attributes["cnames"] = " ".join(names)
    yield Message(RESPONSE, key, status=CODES[code] if code < len(CODES) else f"RCODE{code}", attributes=attributes)
