"""MariaDB, PostgreSQL and Redis as their clients speak to them."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path

import psycopg
import pymysql
import redis
from pymysql.constants import CLIENT

from probes.dissect import read

from . import servers
from .lab import Conversation, conversation, conversations, recorded


def test_mysql_statements_are_read_with_errors_and_values(tmp_path: Path) -> None:
    with servers.mariadb(tmp_path) as port, recorded(tmp_path / "mysql.pcap", port):
        client = pymysql.connect(host="127.0.0.1", port=port, user="root", client_flag=CLIENT.MULTI_STATEMENTS, ssl_disabled=True)
        with client.cursor() as cursor:
            cursor.execute("create database shop")
            client.select_db("shop")
            cursor.execute("create table items(id int primary key, name varchar(2000))")
            cursor.executemany("insert into items values(%s, %s)", [(1000 + number, f"widget-{number}") for number in range(101)])
            cursor.execute("select * from items where id < 1003")
            assert len(cursor.fetchall()) == 3
            cursor.execute("select 1234; select name from items limit 2; select 99")
            while cursor.nextset():
                pass
            cursor.execute("select repeat('y', 100000)")
            for wrong in ("select nothing from nowhere", "selekt"):
                try:
                    cursor.execute(wrong)
                except pymysql.err.ProgrammingError:
                    continue
            cursor.execute("select name from items")
        client.ping()
        client.close()
    talk = conversation(tmp_path / "mysql.pcap")
    said = talk.said()
    assert said[:3] == [("SET NAMES utf8mb4", "ok"), ("SET AUTOCOMMIT = 0", "ok"), ("create database shop", "ok")]
    assert said[3:5] == [("Init DB", "ok"), ("create table items(id int primary key, name varchar(2000))", "ok")]
    assert said[6:] == [
        ("select * from items where id < 1003", "ok"),
        ("select 1234; select name from items limit 2; select 99", "ok"),
        ("select repeat('y', 100000)", "ok"),
        ("select nothing from nowhere", "error 1146"),
        ("selekt", "error 1064"),
        ("select name from items", "ok"),
        ("Ping", "ok"),
    ]
    assert talk.exchanges[0].attributes["login_at"] == "0"
    assert talk.exchanges[6].answers["values"].split() == ["1000", "widget-0", "1001", "widget-1", "1002", "widget-2"]
    _follow_one_another(talk)


def _follow_one_another(talk: Conversation) -> None:
    """Where a response ends the next begins, and the last ends its stream."""
    for before, after in zip(talk.exchanges, talk.exchanges[1:], strict=False):
        assert before.request_end <= after.request_start
        assert before.response_end == after.response_start
    assert talk.exchanges[-1].response_end == max(piece.offset + piece.wire for piece in talk.pieces if not piece.forward)


def test_mysql_prepared_statements_are_read(tmp_path: Path) -> None:
    """COM_STMT_PREPARE, EXECUTE and CLOSE, written by hand: the Python client has none of them. The server's answers are real."""
    with servers.mariadb(tmp_path) as port, recorded(tmp_path / "mysql.pcap", port):
        client = pymysql.connect(host="127.0.0.1", port=port, user="root", ssl_disabled=True, autocommit=None)
        _command(client, 0x16, b"select 4321 + ?")
        prepared = client._read_packet()
        number = int.from_bytes(prepared._data[1:5], "little")
        for _ in range(2 + 2):  # one parameter and one column, an end each
            client._read_packet()
        value = number.to_bytes(4, "little") + b"\0" + (1).to_bytes(4, "little") + b"\0\1" + b"\x08\0" + (7).to_bytes(8, "little")
        _command(client, 0x17, value)
        for _ in range(1 + 1 + 1 + 1 + 1):  # count, column, end, row, end
            client._read_packet()
        _command(client, 0x19, number.to_bytes(4, "little"))
        client.ping()
        client.close()
    talk = conversation(tmp_path / "mysql.pcap")
    assert talk.said()[-3:] == [("select 4321 + ?", "ok"), ("Execute", "ok"), ("Ping", "ok")]
    _follow_one_another(talk)


def _command(client: pymysql.Connection, number: int, content: bytes) -> None:
    client._next_seq_id = 0
    client.write_packet(bytes([number]) + content)


def test_mysql_inside_tls_is_known_to_be_encrypted(tmp_path: Path) -> None:
    with servers.mariadb(tmp_path) as port, recorded(tmp_path / "mysql.pcap", port):
        client = pymysql.connect(host="127.0.0.1", port=port, user="root", ssl=_unchecked())
        client.ping()
        client.close()
    talk = conversation(tmp_path / "mysql.pcap")
    assert talk.exchanges == []
    told = read(talk.pieces, {talk.pieces[0].connection: "mysql"}).handshakes[talk.pieces[0].connection]
    assert told.version == "1.3"
    assert 0 < told.start < told.client_end


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_postgresql_cycles_are_read_with_errors_and_values(tmp_path: Path) -> None:
    with servers.postgresql(tmp_path) as port, recorded(tmp_path / "postgresql.pcap", port):
        client = psycopg.connect(f"host=127.0.0.1 port={port} user=me dbname=postgres gssencmode=disable", autocommit=True)
        client.execute("create table items(id int primary key, name text)")
        with client.cursor().copy("copy items from stdin") as rows:
            for number in range(101):
                rows.write_row((1000 + number, f"widget-{number}"))
        with client.cursor().copy("copy items to stdout") as rows:
            assert sum(1 for _ in rows) > 0
        for below in (1003, 1004):
            client.execute("select * from items where id < %s", (below,), prepare=True).fetchall()
        client.execute("select 1234; select 99; select 'long word'")
        for wrong, parameters in (("select nothing", None), ("selekt %s", (1,))):
            try:
                client.execute(wrong, parameters)
            except psycopg.Error:
                continue
        with client.pipeline() as pipeline:
            for number in range(3):
                client.execute("select name from items where id = %s", (1000 + number,))
                pipeline.sync()
        client.execute("listen news")
        client.execute("notify news, 'today'")
        client.execute("select repeat('y', 200000)")
        client.close()
    talk = conversation(tmp_path / "postgresql.pcap")
    said = talk.said()
    assert said[:3] == [
        ("create table items(id int primary key, name text)", "ok"),
        ("copy items from stdin", "ok"),
        ("copy items to stdout", "ok"),
    ]
    prepared = "select * from items where id < $1"
    assert [operation for operation, _ in said[3:6]] == [prepared] * 3, "prepared, then executed twice"
    assert said[6:9] == [
        ("select 1234; select 99; select 'long word'", "ok"), ("select nothing", "error 42703"), ("selekt $1", "error 42601"),
    ]  # fmt: skip
    assert [entry for entry in said[9:-3] if entry[0] != "Sync"] == [("select name from items where id = $1", "ok")] * 3
    assert said[-3:] == [("listen news", "ok"), ("notify news, 'today'", "ok"), ("select repeat('y', 200000)", "ok")]
    values = [exchange.answers.get("values", "") for exchange in talk.exchanges]
    assert values[4] == "1000 widget-0 1001 widget-1 1002 widget-2"
    assert [value for value in values[9:-3] if value] == ["widget-0", "widget-1", "widget-2"]
    assert talk.exchanges[0].attributes["login_at"] == "0"


def test_redis_commands_are_read_in_both_protocols(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as port, recorded(tmp_path / "redis.pcap", port):
        for version in (2, 3):
            client = redis.Redis(port=port, protocol=version, password=None)
            client.set("name", "alice")
            client.get("nothing")
            client.hset("hash", mapping={"a": 1, "b": "two"})
            client.hgetall("hash")
            with suppress(redis.ResponseError):
                client.lpush("name", "x")
            with client.pipeline(transaction=True) as pipe:
                pipe.incr("n").get("n").execute()
            with client.pipeline(transaction=False) as pipe:
                for _ in range(23):
                    pipe.incr("n")
                pipe.set("big", "x" * 30_000).get("big").execute()
            listener = client.pubsub()
            listener.subscribe("news", "weather")
            for _ in range(2):
                listener.get_message(timeout=60)
            for number in range(3):
                client.publish("news", f"message {number}")
                listener.get_message(timeout=60)
            listener.ping()
            listener.get_message(timeout=60)
            listener.close()
            client.close()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"PING\r\nSET a b\r\n")
            client.recv(100)
    talks = conversations(tmp_path / "redis.pcap")
    assert talks[-1].said() == [("PING", "ok"), ("SET a", "ok")]
    work = [
        ("SET name", "ok"), ("GET nothing", "ok"), ("HSET hash", "ok"), ("HGETALL hash", "ok"), ("LPUSH name", "error WRONGTYPE"),
        ("MULTI", "ok"), ("INCRBY n", "ok"), ("GET n", "ok"), ("EXEC", "ok"), *[("INCRBY n", "ok")] * 23,
        ("SET big", "ok"), ("GET big", "ok"),
    ]  # fmt: skip
    said = [[entry for entry in talk.said() if not str(entry[0]).startswith(("CLIENT", "HELLO", "UNSUB"))] for talk in talks[:-1]]
    listened = [("SUBSCRIBE news", "ok"), ("PING", "ok")]
    published = [("PUBLISH news", "ok")] * 3
    assert sorted(map(str, (entry for entries in said for entry in entries))) == sorted(map(str, 2 * (work + listened + published)))
    assert any(entries[: len(work)] == work for entries in said)
    assert all(exchange.response_start >= 0 for talk in talks for exchange in talk.exchanges if str(exchange.operation) != "UNSUBSCRIBE")
    assert not any("alice" in str(exchange) for talk in talks for exchange in talk.exchanges), "values are not kept"
