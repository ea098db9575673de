"""HTTP/1.x as nginx and a websocket server speak it: what nginx logged is what is read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest
from ports import free_port
from websockets.sync import client as websocket_client
from websockets.sync.server import Server, ServerConnection, serve

from probes.dissect import Exchange
from probes.dissect.framing import digest

from . import servers
from .lab import WAIT_SECONDS, Conversation, conversations, needs, recorded


def receive_all(client: socket.socket, *, ends: Callable[[bytes], bool] = lambda _: False) -> bytes:
    seen = b""
    while (part := client.recv(1 << 16)) and not ends(seen := seen + part):
        pass
    return seen


def say(port: int, *parts: bytes, close: bool = True) -> bytes:
    """Send the parts, each when something has come for the one before; give all that came."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(WAIT_SECONDS)
        seen = b""
        for number, part in enumerate(parts):
            if number:
                seen += client.recv(1 << 16)
            client.sendall(part)
        if close:
            client.shutdown(socket.SHUT_WR)
        return seen + receive_all(client)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Conversation], list[tuple[str, str]], bytes]:
    """A capture of everything below, nginx's own log, and the large file."""
    folder = tmp_path_factory.mktemp("http")
    capture = folder / "http.pcap"
    with servers.nginx(folder) as web:
        with recorded(capture, web.plain, web.proxied):
            client = HTTPConnection("127.0.0.1", web.plain)
            paths = (
                ("GET", "/items.json"),
                ("HEAD", "/big"),
                ("GET", "/empty"),
                ("GET", "/nowhere"),
                ("GET", "/big"),
                ("HEAD", "/nowhere"),
            )
            for number, (method, path) in enumerate([*paths, ("GET", "/items.json")]):
                client.request(method, path, headers={"X-Request-ID": f"request-{number}", "Cookie": "secret"})
                client.getresponse().read()
            client.request("PUT", "/upload/chunked", body=iter([b"abc" * 1000, b"def" * 1000]), encode_chunked=True)
            client.getresponse().read()
            client.close()
            say(web.plain, b"".join(b"GET /items.json?%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(23)))
            put = b"PUT /upload/%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n"
            say(web.plain, put % (b"waits", 5000) + b"Expect: 100-continue\r\n\r\n", b"z" * 5000)
            say(web.plain, put % (b"too-large", 500_000) + b"\r\n" + b"q" * 100, b"z" * 50)
            say(web.plain, b"GET /items.json HTTP/1.0\r\n\r\n")
            say(web.plain, b"GET /items.json HTTP/1.1\r\nHost: a\r\nX-Long: " + b"h" * 3000 + b"\r\nConnection: close\r\n\r\n")
            say(web.proxied, b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\nGET /items.json?v1 HTTP/1.0\r\n\r\n")
            v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([198, 51, 100, 7, 127, 0, 0, 1]) + b"\x1e\x61\0\x50"
            say(web.proxied, v2 + b"GET /items.json?v2 HTTP/1.0\r\n\r\n")
        return conversations(capture), web.logged(), (folder / "files" / "big").read_bytes()


def all_exchanges(talks: list[Conversation]) -> list[Exchange]:
    return [exchange for talk in talks for exchange in talk.exchanges]


def test_every_request_is_read_with_its_status(spoken: tuple[list[Conversation], list[tuple[str, str]], bytes]) -> None:
    talks, logged, _ = spoken
    read = [said for talk in talks for said in talk.said()]
    assert sorted(read) == sorted(logged)
    assert len(read) == 37


def test_places_are_those_of_the_messages(spoken: tuple[list[Conversation], list[tuple[str, str]], bytes]) -> None:
    """Each request and response begins with its first line, and together they are all that was said."""
    for talk in spoken[0]:
        at = {True: 0, False: 0}
        for exchange in talk.exchanges:
            line = f"{exchange.operation} {exchange.attributes['version']}\r\n"
            assert talk.request(exchange).startswith(line.encode())
            assert talk.response(exchange).startswith(f"HTTP/1.1 {exchange.status} ".encode())
            at = {True: exchange.request_end, False: exchange.response_end}
        for forward, end in at.items():
            assert end == max(piece.offset + piece.wire for piece in talk.pieces if piece.forward == forward)


def test_bodies_are_told_apart_by_digest_and_words(spoken: tuple[list[Conversation], list[tuple[str, str]], bytes]) -> None:
    by_operation = {exchange.operation: exchange for exchange in all_exchanges(spoken[0])}
    assert by_operation["GET /big"].answers["body"] == digest(spoken[2])
    assert by_operation["GET /items.json"].answers["body"] == digest(servers.ITEMS.encode())
    assert by_operation["GET /items.json"].answers["words"] == "1234 widget-7"
    assert "body" not in by_operation["HEAD /big"].answers
    assert by_operation["PUT /upload/chunked"].attributes["body"] == digest(b"abc" * 1000 + b"def" * 1000)
    assert "body" not in by_operation["PUT /upload/too-large"].attributes, "it was never sent whole"


def test_headers_that_say_who_asked_are_kept_and_secrets_are_not(spoken: tuple[list[Conversation], list[tuple[str, str]], bytes]) -> None:
    kept = [exchange.attributes.get("x-request-id") for exchange in spoken[0][0].exchanges[:7]]
    assert kept == [f"request-{number}" for number in range(7)]
    assert not any("secret" in str(exchange) for exchange in all_exchanges(spoken[0]))


def test_a_proxy_header_says_for_whom(spoken: tuple[list[Conversation], list[tuple[str, str]], bytes]) -> None:
    told = {exchange.operation: exchange.attributes.get("proxied_for") for exchange in all_exchanges(spoken[0])}
    assert told["GET /items.json?v1"] == "203.0.113.9:5555"
    assert told["GET /items.json?v2"] == "198.51.100.7:7777"
    assert told["GET /items.json"] is None


@pytest.mark.parametrize("snaplen", [96, 128, 200])
def test_cut_packets_still_tell_request_and_status(tmp_path: Path, snaplen: int) -> None:
    with servers.nginx(tmp_path) as web:
        with recorded(tmp_path / "cut.pcap", web.plain, snaplen=snaplen):
            client = HTTPConnection("127.0.0.1", web.plain)
            for number in range(11):
                client.request("GET", ("/big", "/i", "/items.json")[number % 3])
                client.getresponse().read()
            client.close()
        (talk,) = conversations(tmp_path / "cut.pcap")
        assert talk.said() == web.logged()


def test_a_websocket_is_one_exchange(tmp_path: Path) -> None:
    needs()
    port = free_port()

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    server: Server = serve(echo, "127.0.0.1", port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with recorded(tmp_path / "ws.pcap", port), websocket_client.connect(f"ws://127.0.0.1:{port}/chat") as talk:
            for number in range(7):
                talk.send(f"GET /{number} HTTP/1.1\r\n\r\n")
                talk.recv()
    finally:
        server.shutdown()
        thread.join()
    (read,) = conversations(tmp_path / "ws.pcap")
    assert read.said() == [("GET /chat", "101")]
    assert read.exchanges[0].answers["upgrade"] == "websocket"
    assert read.response(read.exchanges[0]).endswith(b"\r\n\r\n")
