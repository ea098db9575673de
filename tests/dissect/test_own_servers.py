"""MongoDB and Kafka: a real client against a small server of ours, since no real one can be installed here."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import bson
import pymongo
import pymongo.errors
import pytest
from kafka.protocol.consumer import FetchRequest, FetchResponse, HeartbeatRequest, HeartbeatResponse
from kafka.protocol.metadata import FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from .lab import conversations, needs, recorded, reread

_MORE_TO_COME = 2


def _exactly(client: socket.socket, size: int) -> bytes:
    seen = b""
    while len(seen) < size:
        part = client.recv(size - len(seen))
        if not part:
            raise EOFError
        seen += part
    return seen


def _reply(command: dict[str, Any]) -> dict[str, Any]:
    """What a MongoDB server of wire version 17 answers, as far as this test asks."""
    name = next(iter(command))
    rows = [{"_id": number, "name": f"widget-{number}", "ok": 0.0} for number in range(3)]
    return {
        "find": {"cursor": {"id": bson.int64.Int64(7), "ns": "shop.items", "firstBatch": rows}, "ok": 1.0},
        "getMore": {"cursor": {"id": bson.int64.Int64(0), "ns": "shop.items", "nextBatch": rows}, "ok": 1.0},
        "insert": {"n": 1, "ok": 1.0},
        "ping": {"ok": 1.0},
        "endSessions": {"ok": 1.0},
    }.get(name) or (
        {
            "helloOk": True, "ismaster": True, "isWritablePrimary": True, "maxWireVersion": 21, "minWireVersion": 0,
            "maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "ok": 1.0,
        }
        if name in ("hello", "ismaster", "isMaster")
        else {"ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": f"no such command: {name}"}
    )  # fmt: skip


def _serve_mongodb(client: socket.socket) -> None:
    number = 1000
    with client:
        while True:
            try:
                head = _exactly(client, 16)
                size, asked, _, opcode = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4, 8, 12))
                content = _exactly(client, size - 16)
            except (EOFError, OSError):
                return
            number += 1
            if opcode == 2013:
                flags, command = int.from_bytes(content[:4], "little"), bson.decode(content[5 : 5 + int.from_bytes(content[5:9], "little")])
                if flags & _MORE_TO_COME:
                    continue
                answer = b"\0\0\0\0\0" + bson.encode(_reply(command))
            else:  # OP_QUERY, answered by OP_REPLY
                at = content.index(b"\0", 4) + 9
                command = bson.decode(content[at:])
                answer = bytes(16) + (1).to_bytes(4, "little") + bson.encode(_reply(command))
            header = (16 + len(answer), number, asked, 2013 if opcode == 2013 else 1)
            client.sendall(b"".join(field.to_bytes(4, "little") for field in header) + answer)


def test_mongodb_commands_are_read(tmp_path: Path) -> None:
    needs()
    listener = socket.create_server(("127.0.0.1", 27017)) if _free(27017) else pytest.skip("port 27017 is taken")

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve_mongodb, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with (
        recorded(tmp_path / "mongo.pcap", 27017),
        pymongo.MongoClient("mongodb://127.0.0.1:27017/?directConnection=true&maxPoolSize=1", serverSelectionTimeoutMS=5000) as client,
    ):
        items = client.shop.items
        assert len(list(items.find({"name": "x"}, batch_size=3))) == 6
        items.insert_one({"name": "widget", "large": "y" * 100_000})
        items.with_options(write_concern=pymongo.WriteConcern(w=0)).insert_one({"name": "nobody answers"})
        with pytest.raises(pymongo.errors.OperationFailure):
            client.shop.command("nonsense")
        client.shop.command("ping")
    listener.close()
    talks = conversations(tmp_path / "mongo.pcap")
    said = [entry for talk in talks for entry in talk.said() if str(entry[0]).lower() not in ("hello", "ismaster", "endsessions")]
    assert said == [
        ("find items", "ok"), ("getMore", "ok"), ("insert items", "ok"), ("insert items", None), ("nonsense", "error 59"), ("ping", "ok"),
    ]  # fmt: skip
    silent = [exchange for talk in talks for exchange in talk.exchanges if exchange.attributes.get("no_response")]
    assert [(exchange.operation, exchange.response_start) for exchange in silent] == [("insert items", -1)]
    work = next(talk for talk in talks if ("ping", "ok") in talk.said())
    for exchange in work.exchanges:
        assert int.from_bytes(work.request(exchange)[4:8], "little") == exchange.key
        assert exchange.response_start < 0 or int.from_bytes(work.response(exchange)[8:12], "little") == exchange.key
    for found in reread([work.pieces[:number] + work.pieces[number + 1 :] for number in range(len(work.pieces))], "mongodb"):
        paired = [(exchange.operation, exchange.status) for exchange in found if exchange.request_start >= 0 <= exchange.response_start]
        assert set(paired) <= set(work.said()), "whatever piece is missing"


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _kafka_answers(listener: socket.socket, answers: list[bytes | None]) -> None:
    """Read a request for each of `answers` and send it; None: nothing is sent."""
    client, _ = listener.accept()
    with client:
        for answer in answers:
            _exactly(client, int.from_bytes(_exactly(client, 4), "big"))
            if answer is not None:
                client.sendall(answer)
        while client.recv(1):
            pass


def _framed(message: Any, number: int) -> bytes:
    message.with_header(**({"correlation_id": number, "client_id": "shop"} if message.is_request() else {"correlation_id": number}))
    return bytes(message.encode(header=True, framed=True))


def test_kafka_requests_are_read(tmp_path: Path) -> None:
    """The messages are kafka-python's own; who sends them is this test."""
    needs()
    topic = ProduceRequest[3].TopicProduceData

    def produce(acks: int) -> Any:
        rows = [topic(version=3, name="orders", partition_data=[])]
        return ProduceRequest(version=3, transactional_id=None, acks=acks, timeout_ms=1000, topic_data=rows)

    fetch = {"replica_id": -1, "max_wait_ms": 500, "min_bytes": 1, "max_bytes": 1 << 20, "isolation_level": 0, "topics": []}
    conversation_: list[tuple[Any, Any]] = [
        (MetadataRequest(version=1, topics=[]), MetadataResponse(version=1, brokers=[], controller_id=1, topics=[])),
        (FindCoordinatorRequest(version=0, key="group"), FindCoordinatorResponse(version=0, error_code=15, node_id=-1, host="", port=-1)),
        (produce(0), None),
        (produce(1), ProduceResponse(version=3, responses=[], throttle_time_ms=0)),
        (FetchRequest(version=4, **fetch), FetchResponse(version=4, throttle_time_ms=0, responses=[])),
        (HeartbeatRequest(version=0, group_id="g", generation_id=1, member_id="m"), HeartbeatResponse(version=0, error_code=27)),
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    replies = [None if answer is None else _framed(answer, 100 + number) for number, (_, answer) in enumerate(conversation_)]
    with recorded(tmp_path / "kafka.pcap", port):
        server = threading.Thread(target=_kafka_answers, args=(listener, replies), daemon=True)
        server.start()
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            for number, (request, answer) in enumerate(conversation_):
                client.sendall(_framed(request, 100 + number))
                if answer is not None:
                    _exactly(client, int.from_bytes(_exactly(client, 4), "big"))
        server.join(10)
    listener.close()
    (talk,) = conversations(tmp_path / "kafka.pcap")
    (exchanges,) = reread([talk.pieces], "kafka")
    assert [(exchange.operation, exchange.status) for exchange in exchanges] == [
        ("Metadata", "ok"), ("FindCoordinator", "error 15"), ("Produce orders", None), ("Produce orders", "ok"), ("Fetch", "ok"),
        ("Heartbeat", "error 27"),
    ]  # fmt: skip
    assert [exchange.key for exchange in exchanges] == list(range(100, 106))
    assert exchanges[2].attributes["no_response"] == "acks=0"
    for exchange in exchanges:
        assert int.from_bytes(talk.request(exchange)[8:12], "big") == exchange.key
        assert exchange.response_start < 0 or int.from_bytes(talk.response(exchange)[4:8], "big") == exchange.key
