"""RabbitMQ as pika speaks to it, and DNS as dnspython asks dnsmasq."""

from __future__ import annotations

import itertools
import socket
import time
from contextlib import suppress
from pathlib import Path

import dns.message
import dns.query
import pika
import pika.exceptions
import pytest

from . import servers
from .lab import WAIT_SECONDS, conversation, conversations, recorded

ADDRESS = "127.53.0.1"


def _connected(port: int) -> pika.BlockingConnection:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        except pika.exceptions.AMQPConnectionError:  # it listens before it is ready
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_amqp_calls_are_read_on_their_channels(tmp_path: Path) -> None:
    with servers.rabbitmq(tmp_path) as port:
        _connected(port).close()
        with recorded(tmp_path / "amqp.pcap", port):
            connection = _connected(port)
            channel = connection.channel()
            channel.exchange_declare("shop")
            channel.queue_declare("orders")
            channel.queue_bind("orders", "shop", "new")
            for number in range(3):
                channel.basic_publish("shop", "new", b"order %d" % number)
            while channel.basic_get("orders", auto_ack=True)[0] is None:
                pass
            for delivered, _, _ in itertools.islice(channel.consume("orders"), 2):
                channel.basic_ack(delivered.delivery_tag)
            channel.cancel()
            channel.basic_get("orders")
            other = connection.channel()
            other.basic_publish("", "orders", b"x" * 300_007)
            with suppress(pika.exceptions.ChannelClosedByBroker):
                other.queue_declare("none", passive=True)
            connection.close()
    talk = conversation(tmp_path / "amqp.pcap")
    calls = [entry for entry in talk.said() if not str(entry[0]).startswith(("Basic.Get", "Basic.Ack"))]
    assert calls == [
        ("Connection.Open", "ok"), ("Channel.Open", "ok"), ("Exchange.Declare shop", "ok"), ("Queue.Declare orders", "ok"),
        ("Queue.Bind orders", "ok"), *[("Basic.Publish new", None)] * 3, ("Basic.Consume orders", "ok"), ("Basic.Cancel", "ok"),
        ("Channel.Open", "ok"), ("Basic.Publish orders", None), ("Queue.Declare none", "error 404"), ("Channel.Close", "ok"),
        ("Connection.Close", "ok"),
    ]  # fmt: skip
    assert [status for operation, status in talk.said() if operation == "Basic.Get orders"][-2:] == ["ok", "empty"]
    published = [exchange for exchange in talk.exchanges if str(exchange.operation).startswith("Basic.Publish")]
    assert {exchange.attributes["no_response"] for exchange in published} == {"published"}
    assert all(exchange.response_start == -1 for exchange in published)


def test_dns_is_read_over_udp_and_tcp(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((ADDRESS, 53))
    except OSError as error:
        pytest.skip(f"port 53 cannot be had: {error}")
    with servers.dnsmasq(tmp_path, ADDRESS):
        time.sleep(0.3)
        with recorded(tmp_path / "dns.pcap", 53):
            for name, kind in (("shop.example", "A"), ("shop.example", "AAAA"), ("www.test", "A"), ("nx.test", "A")):
                dns.query.udp(dns.message.make_query(name, kind), ADDRESS, timeout=WAIT_SECONDS)
            _, over_tcp = dns.query.udp_with_fallback(dns.message.make_query("big.test", "TXT"), ADDRESS, timeout=WAIT_SECONDS)
            assert over_tcp
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:  # as glibc's resolver asks
                client.connect((ADDRESS, 53))
                for number, kind in enumerate(("A", "AAAA")):
                    client.send(dns.message.make_query("shop.example", kind, id=4242 + number).to_wire())
                for _ in range(2):
                    client.recv(512)
                query = dns.message.make_query("shop.test", "A", id=5000).to_wire()
                client.send(query)
                client.send(query)
                for _ in range(2):
                    client.recv(512)
            with socket.create_connection((ADDRESS, 53)) as client:
                for number, name in enumerate(("shop.example", "shop.test")):
                    dns.query.send_tcp(client, dns.message.make_query(name, "A", id=77 + number))
                for _ in range(2):
                    dns.query.receive_tcp(client)
    talks = conversations(tmp_path / "dns.pcap")
    said = [talk.said() for talk in talks]
    assert said == [
        [("A shop.example", "NOERROR")], [("AAAA shop.example", "NOERROR")], [("A www.test", "NOERROR")], [("A nx.test", "NXDOMAIN")],
        [("TXT big.test", "NOERROR")], [("TXT big.test", "NOERROR")],
        [("A shop.example", "NOERROR"), ("AAAA shop.example", "NOERROR"), ("A shop.test", "NOERROR")],
        [("A shop.example", "NOERROR"), ("A shop.test", "NOERROR")],
    ]  # fmt: skip
    answers = [talk.exchanges[0].answers for talk in talks]
    assert [answer.get("addresses") for answer in answers[:4]] == ["192.0.2.7", "2001:db8::7", "192.0.2.8", None]
    assert answers[2]["cnames"] == "shop.test"
    assert (answers[4].get("truncated"), answers[5].get("truncated")) == ("yes", None)
