"""Apache Kafka's wire protocol ("Kafka protocol guide")."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import REQUEST, RESPONSE, Message, one
from probes.dissect.pdml import Layer

APIS = {
    0: "Produce", 1: "Fetch", 2: "ListOffsets", 3: "Metadata", 8: "OffsetCommit", 9: "OffsetFetch", 10: "FindCoordinator", 11: "JoinGroup",
    12: "Heartbeat", 13: "LeaveGroup", 14: "SyncGroup", 15: "DescribeGroups", 16: "ListGroups", 17: "SaslHandshake", 18: "ApiVersions",
    19: "CreateTopics", 20: "DeleteTopics", 21: "DeleteRecords", 22: "InitProducerId", 23: "OffsetForLeaderEpoch", 24: "AddPartitionsToTxn",
    25: "AddOffsetsToTxn", 26: "EndTxn", 28: "TxnOffsetCommit", 32: "DescribeConfigs", 36: "SaslAuthenticate", 37: "CreatePartitions",
}  # fmt: skip
_PRODUCE = 0


def read(layer: Layer) -> Iterator[Message]:
    """A request or a response, whose key is the correlation id. A Produce that wants no acknowledgment gets no response."""
    fields = layer.fields
    identifier = one(fields, "kafka.correlation_id")
    head = bytes(layer.message.head) if layer.message is not None else b""
    if identifier is None and len(head) < 12:
        return
    if layer.forward:
        number = int(one(fields, "kafka.api_key") or one(fields, "kafka.request_key") or str(int.from_bytes(head[4:6], "big")), 0)
        key = int(identifier, 0) if identifier is not None else int.from_bytes(head[8:12], "big", signed=True)
        topics = list(dict.fromkeys(fields.get("kafka.topic_name", [])))
        name = APIS.get(number, f"api {number}")
        attributes = {"topics": " ".join(topics)} if topics else {}
        silent = number == _PRODUCE and one(fields, "kafka.required_acks") == "0"
        if silent:
            attributes["no_response"] = "acks=0"
        yield Message(REQUEST, key, operation=" ".join([name, *topics[:1]]), attributes=attributes)
        return
    key = int(identifier, 0) if identifier is not None else int.from_bytes(head[4:8], "big", signed=True)
    errors = [error for error in fields.get("kafka.error", []) if error != "0"]
    yield Message(RESPONSE, key, status=f"error {errors[0]}" if errors else "ok")
