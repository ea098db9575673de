"""HTTP/2 in clear, upgraded and inside TLS, and gRPC, as nginx, h2 and grpcio speak them."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from ports import free_port

from probes.dissect import Handshake, read
from probes.dissect.framing import digest

from . import servers
from .lab import Conversation, conversations, needs, recorded, reread
from .test_http import receive_all

PATHS = ("/items.json", "/big", "/nowhere", "/items.json", "/empty")
STATUSES = ("200", "200", "404", "200", "204")


def ask_http2(client: socket.socket, paths: tuple[str, ...]) -> None:
    """Ask for all paths at once, each on its own stream, and wait for all answers."""
    talk = h2.connection.H2Connection()
    talk.initiate_connection()
    for number, path in enumerate(paths):
        names = {":method": "GET", ":path": path, ":scheme": "http", ":authority": "shop.example", "x-request-id": f"request-{number}"}
        talk.send_headers(2 * number + 1, list(names.items()), end_stream=True)
    client.sendall(talk.data_to_send())
    left = len(paths)
    while left:
        for event in talk.receive_data(client.recv(1 << 16)):
            if isinstance(event, h2.events.DataReceived):
                talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            left -= isinstance(event, h2.events.StreamEnded)
        client.sendall(talk.data_to_send())
    talk.close_connection()
    client.sendall(talk.data_to_send())


def test_streams_of_one_connection_are_read_apart(tmp_path: Path) -> None:
    with (
        servers.nginx(tmp_path) as web,
        recorded(tmp_path / "h2.pcap", web.http2),
        socket.create_connection(("127.0.0.1", web.http2), timeout=60) as client,
    ):
        ask_http2(client, PATHS)
    (talk,) = conversations(tmp_path / "h2.pcap")
    assert talk.said() == [(f"GET {path}", status) for path, status in zip(PATHS, STATUSES, strict=True)]
    assert [exchange.attributes["x-request-id"] for exchange in talk.exchanges] == [f"request-{number}" for number in range(5)]
    assert {exchange.attributes["host"] for exchange in talk.exchanges} == {"shop.example"}
    for exchange in talk.exchanges:  # HEADERS on its stream (RFC 9113, 4.1)
        assert talk.request(exchange)[3] == talk.response(exchange)[3] == 1
        assert int.from_bytes(talk.request(exchange)[5:9], "big") == int.from_bytes(talk.response(exchange)[5:9], "big") == exchange.key
    large = talk.exchanges[1]
    assert large.response_end - large.response_start > servers.BIG_BYTES


def test_what_header_compression_cannot_tell_is_not_guessed(tmp_path: Path) -> None:
    """Without the connection's beginning, indexed headers are unknown: no path is made up."""
    with (
        servers.nginx(tmp_path) as web,
        recorded(tmp_path / "h2.pcap", web.http2),
        socket.create_connection(("127.0.0.1", web.http2), timeout=60) as client,
    ):
        ask_http2(client, PATHS)
    (talk,) = conversations(tmp_path / "h2.pcap")
    for exchanges in reread([talk.pieces[missing:] for missing in range(1, len(talk.pieces))], "http2"):
        for exchange in exchanges:
            assert (exchange.operation, exchange.status) in {(None, status) for status in STATUSES} | set(talk.said())


def test_an_upgraded_connection_answers_on_stream_one(tmp_path: Path) -> None:
    needs()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            head = receive_all(client, ends=lambda seen: seen.endswith(b"\r\n\r\n")).decode()
            settings = next(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("HTTP2-Settings"))
            talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            talk.initiate_upgrade_connection(settings.encode())
            client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + talk.data_to_send())
            talk.send_headers(1, [(":status", "203"), ("etag", "one")])
            talk.send_data(1, b"hello", end_stream=True)
            client.sendall(talk.data_to_send())
            while part := client.recv(1 << 16):
                for event in talk.receive_data(part):
                    if isinstance(event, h2.events.RequestReceived) and event.stream_id > 1:
                        talk.send_headers(event.stream_id, [(":status", "404")], end_stream=True)
                client.sendall(talk.data_to_send())

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with recorded(tmp_path / "h2c.pcap", port), socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        talk = h2.connection.H2Connection()
        settings = talk.initiate_upgrade_connection()
        upgrade = b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
        client.sendall(upgrade + (settings or b"") + b"\r\n\r\n")
        seen = receive_all(client, ends=lambda seen: b"\r\n\r\n" in seen)
        answered = _ended(talk, seen.partition(b"\r\n\r\n")[2])
        talk.send_headers(3, [(":method", "GET"), (":path", "/second"), (":scheme", "http"), (":authority", "a")], end_stream=True)
        client.sendall(talk.data_to_send())
        while answered < 2:
            answered += _ended(talk, client.recv(1 << 16))
    thread.join(10)
    listener.close()
    (read_,) = conversations(tmp_path / "h2c.pcap")
    assert read_.said() == [("GET /first", "203"), ("GET /second", "404")]
    assert read_.request(read_.exchanges[0]).startswith(b"GET /first")


def _ended(talk: h2.connection.H2Connection, received: bytes) -> int:
    return sum(isinstance(event, h2.events.StreamEnded) for event in talk.receive_data(received))


def handshakes(talks: list[Conversation]) -> list[Handshake]:
    pieces = [piece for talk in talks for piece in talk.pieces]
    return list(read(pieces, {piece.connection: "tls" for piece in pieces}).handshakes.values())


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_tls_is_read_with_keys_and_its_handshake_without(tmp_path: Path, version: ssl.TLSVersion, protocol: str) -> None:
    keys, capture = tmp_path / "keys.log", tmp_path / "tls.pcap"
    with servers.nginx(tmp_path) as web, recorded(capture, web.tls):
        context = ssl.create_default_context(cafile=str(web.certificate))
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols([protocol])
        context.keylog_filename = str(keys)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", web.tls), timeout=60), server_hostname="shop.example") as client:
            if protocol == "h2":
                ask_http2(client, PATHS)
            else:
                client.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in PATHS[:-1]).encode())
                client.sendall(b"GET /empty HTTP/1.0\r\n\r\n")
                receive_all(client)
    (hidden,) = conversations(capture)
    assert (hidden.exchanges, hidden.unread) == ([], "encrypted")
    (told,) = handshakes([hidden])
    assert (told.server_name, told.protocols, told.version) == ("shop.example", (protocol,), str(version.name)[-3:].replace("_", "."))
    assert told.protocol == (protocol if version == ssl.TLSVersion.TLSv1_2 else None), "TLS 1.3 hides the choice"
    assert told.start == 0
    for place, forward in ((told.client_end, True), (told.server_end, False)):
        assert 22 <= hidden.bytes_at(place, place + 1, forward=forward)[0] <= 23, "a record begins where the handshake has ended"
    (talk,) = conversations(capture, keys)
    assert sorted(talk.said()) == sorted((f"GET {path}", status) for path, status in zip(PATHS, STATUSES, strict=True))
    assert min(exchange.request_start for exchange in talk.exchanges) == told.client_end
    if protocol == "http/1.1":
        assert talk.said() == [(f"GET {path}", status) for path, status in zip(PATHS, STATUSES, strict=True)]
        assert talk.exchanges[0].answers["body"] == digest(servers.ITEMS.encode())
        assert talk.exchanges[0].answers["words"] == "1234 widget-7"
        assert talk.exchanges[1].answers["body"] == digest((tmp_path / "files" / "big").read_bytes())


class Items(grpc.GenericRpcHandler):
    """A service of bytes."""

    def service(self, handler_call_details: Any) -> Any:
        return {
            "/shop.Items/Get": grpc.unary_unary_rpc_method_handler(lambda asked, _: asked + b"!"),
            "/shop.Items/List": grpc.unary_stream_rpc_method_handler(lambda _, __: iter([b"a" * 100] * 5)),
            "/shop.Items/Put": grpc.stream_unary_rpc_method_handler(lambda asked, _: b"%d" % len(list(asked))),
            "/shop.Items/Fail": grpc.unary_unary_rpc_method_handler(lambda _, call: call.abort(grpc.StatusCode.NOT_FOUND, "no such item")),
            "/shop.Items/Half": grpc.unary_stream_rpc_method_handler(self.half),
        }.get(handler_call_details.method)

    def half(self, _: bytes, call: grpc.ServicerContext) -> Any:
        yield b"one"
        call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


def test_grpc_calls_have_grpc_names_and_statuses(tmp_path: Path) -> None:
    needs()
    port = free_port()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Items(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    done: list[tuple[str, str]] = []
    with recorded(tmp_path / "grpc.pcap", port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name in ("Get", "List", "Put", "Fail", "Nothing", "Half"):
            path = f"/shop.Items/{name}"
            try:
                if name in ("List", "Half"):
                    list(channel.unary_stream(path)(b"x"))
                elif name == "Put":
                    channel.stream_unary(path)(iter([b"z"] * 7))
                else:
                    channel.unary_unary(path)(b"x")
                code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                code = error.code()
            done.append((path[1:], code.name))
    server.stop(None).wait()
    (talk,) = conversations(tmp_path / "grpc.pcap")
    assert talk.said() == done
    assert {exchange.protocol for exchange in talk.exchanges} == {"grpc"}
