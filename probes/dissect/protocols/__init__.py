"""The protocols that are read, a row each.

To add one: a reader of its layer in a file here, a row in PROTOCOLS, what it begins with in `probes.dissect.content`, and how its streams
are cut into messages in `probes.dissect.framing`.
"""

from __future__ import annotations

from probes.dissect.messages import Exchange, Message, Protocol
from probes.dissect.pairing import by_key, by_order, by_turns, turn_taking
from probes.dissect.protocols import amqp, dns, http, kafka, mongodb, mysql, nats, postgresql, proxy, redis, tls

PROTOCOLS: tuple[Protocol, ...] = (
    Protocol("http", 80, "http", http.read, by_order, fields=http.FIELDS),
    Protocol("http2", 50051, "http2", http.read_http2, by_key, part="http2.stream", decode_as="tcp.port==50051,http2"),
    Protocol("dns", 53, "dns", dns.read, by_key, fields=dns.FIELDS),
    Protocol("mysql", 3306, "mysql", mysql.read, by_turns, fields=mysql.FIELDS),
    Protocol("postgresql", 5432, "pgsql", postgresql.read, postgresql.pair),
    Protocol("redis", 6379, "resp", redis.read, redis.pair, decode_as="tcp.port==6379,resp"),
    Protocol("kafka", 9092, "kafka", kafka.read, by_key, decode_as="tcp.port==9092,kafka"),
    Protocol("mongodb", 27017, "mongo", mongodb.read, by_key, part="mongo.element.name", decode_as="tcp.port==27017,mongo"),
    Protocol("amqp", 5672, "amqp", amqp.read, amqp.pair, decode_as="tcp.port==5672,amqp"),
    Protocol("nats", 4222, "nats", nats.read, by_order),
    Protocol("tls", 443, "tls", tls.read, turn_taking),
    Protocol("proxy", 18888, "proxy", proxy.read, turn_taking),
)
BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS}

__all__ = ["BY_NAME", "PROTOCOLS", "finish"]


def finish(messages: dict[str, list[Message]]) -> list[Exchange]:
    """The exchanges of one connection from its messages by protocol, in the order of their requests."""
    found = {name: BY_NAME[name].pair(name, said) for name, said in messages.items()}
    if "http2" in found:
        found["http2"] = http.finish_http2(http.upgraded(found["http2"], found.get("http", [])))
    exchanges = [exchange for some in found.values() for exchange in some]
    if "proxy" in messages:
        for exchange in exchanges:
            exchange.attributes |= messages["proxy"][0].attributes
    return sorted(exchanges, key=lambda exchange: (max(exchange.request_start, 0), exchange.response_start))
