"""Short sessions with real servers, recorded once for all tests that damage them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pymysql
import redis

from . import servers
from .lab import recorded


def keepalive_http(folder: Path) -> Path:
    """Requests one after the other on one connection, with bodies of several packets."""
    capture = folder / "keepalive.pcap"
    with servers.nginx(folder) as web, recorded(capture, web.plain):
        client = HTTPConnection("127.0.0.1", web.plain)
        for number in range(23):
            method, path = (("GET", "/items.json"), ("GET", "/nowhere"), ("HEAD", "/items.json"), ("GET", "/empty"), ("GET", "/big"))[
                number % 5
            ]
            client.request(method, f"{path}?{number}")
            client.getresponse().read()
        client.close()
    return capture


def pipelined_http(folder: Path) -> Path:
    """Requests in batches, without waiting inside a batch."""
    capture = folder / "pipelined.pcap"
    with servers.nginx(folder) as web, recorded(capture, web.plain), socket.create_connection(("127.0.0.1", web.plain)) as client:
        for batch in range(7):
            for number in range(5):
                client.sendall(f"GET /{'items.json' if number % 2 else 'nowhere'}?{batch}.{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            seen = b""
            while seen.count(b"HTTP/1.1 ") < 5 or not seen.endswith((b"</html>\r\n", b"}")):
                seen += client.recv(1 << 16)
    return capture


def pipelined_redis(folder: Path) -> Path:
    """Commands in batches."""
    capture = folder / "redis.pcap"
    with servers.redis(folder) as port, recorded(capture, port), redis.Redis(port=port) as client:
        for batch in range(7):
            with client.pipeline(transaction=False) as pipe:
                for number in range(batch + 1):
                    pipe.incrby(f"counter-{number}", batch)
                    pipe.hgetall(f"nothing-{batch}")
                    pipe.get(f"counter-{number}")
                pipe.set("large", "x" * 5000 * batch)
                pipe.get("large")
                pipe.execute()
            client.ping()
    return capture


def overlapping_redis(folder: Path) -> Path:
    """A client that asks again before it has its answers."""
    capture = folder / "overlapping.pcap"
    with servers.redis(folder) as port, recorded(capture, port), socket.create_connection(("127.0.0.1", port)) as client:
        for number in range(41):
            client.sendall(f"DEBUG SLEEP 0.003\r\nECHO {number}\r\n".encode())
            time.sleep(0.002)
        seen = b""
        while not seen.endswith(b"$2\r\n40\r\n"):
            seen += client.recv(1 << 16)
    return capture


def mysql(folder: Path) -> Path:
    """Statements one after the other, some with rows, some wrong."""
    capture = folder / "mysql.pcap"
    with servers.mariadb(folder) as port, recorded(capture, port):
        client = pymysql.connect(host="127.0.0.1", port=port, user="root", ssl_disabled=True)
        with client.cursor() as cursor:
            for number in range(23):
                try:
                    cursor.execute(("select {}", "select repeat('y', {}000)", "selekt {}", "set @a={}")[number % 4].format(number))
                except pymysql.err.ProgrammingError:
                    continue
        client.close()
    return capture


def postgresql(folder: Path) -> Path:
    """Statements one after the other, and some in a pipeline."""
    capture = folder / "postgresql.pcap"
    with (
        servers.postgresql(folder) as port,
        recorded(capture, port),
        psycopg.connect(f"host=127.0.0.1 port={port} user=me dbname=postgres", autocommit=True) as client,
    ):
        for number in range(23):
            try:
                client.execute(
                    ("select {}", "select repeat('y', {}000)", "selekt {}", "select $1::int + {}")[number % 4].format(number),
                    (number,) if number % 4 == 3 else None,
                )
            except psycopg.errors.Error:
                continue
        for batch in range(5):
            with client.pipeline() as pipeline:
                for number in range(3):
                    client.execute("select %s::text", (f"word-{batch}-{number}",))
                    pipeline.sync()
    return capture


RECORDINGS: dict[str, Callable[[Path], Path]] = {
    "keepalive-http": keepalive_http, "pipelined-http": pipelined_http, "pipelined-redis": pipelined_redis,
    "overlapping-redis": overlapping_redis, "mysql": mysql, "postgresql": postgresql,
}  # fmt: skip
