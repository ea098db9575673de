"""A conversation in a capture file, for tests of `hopline explain`: what a client and a server at odd ports say to each other."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from conftest import traced_sample
from packets import ethernet, ip4, tcp, timestamps

from analysis.requests import RequestRecorder
from tracer.requests import trace_requests

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
CLIENT_PORT = 40_000


def conversation(said: Iterable[tuple[bool, bytes]], port: int = 8081, first_id: int = 1) -> list[bytes]:
    """Frames: a handshake, then `(whether the client says it, what)`."""
    seq = {True: 99, False: 499}
    ip_id = first_id

    def frame(client: bool, flags: str, payload: bytes = b"") -> bytes:
        nonlocal ip_id
        ends, ports = ((CLIENT, SERVER), (CLIENT_PORT, port)) if client else ((SERVER, CLIENT), (port, CLIENT_PORT))
        ack = 0 if flags == "S" else seq[not client]
        inner = tcp(*ports, flags, payload, seq=seq[client], ack=ack, options=timestamps(ip_id, 1))
        ip_id += 1
        seq[client] += len(payload) + ("S" in flags)
        return ethernet(ip4(*ends, inner, ip_id=ip_id))

    return [frame(True, "S"), frame(False, "SA"), frame(True, "A"), *(frame(client, "PA", payload) for client, payload in said)]


def encrypted(folder: Path, request: bytes, response: bytes) -> list[tuple[bool, bytes]]:
    """What both sides of a TLS connection send to exchange these, by Python's own TLS; `folder` gets `keys.txt`, a key log."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    client_side = ssl.create_default_context(cafile=str(certificate))
    client_side.check_hostname = False
    client_side.keylog_filename = str(folder / "keys.txt")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname="shop.example")
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    said: list[tuple[bool, bytes]] = []

    def step(of_client: bool, act: Callable[[], object]) -> None:
        """Let one side act; what it has to send is noted, and handed to the other side."""
        with suppress(ssl.SSLWantReadError):
            act()
        sent = to_server if of_client else to_client
        content = sent.read()
        if content:
            said.append((of_client, content))
            sent.write(content)

    for _ in range(3):
        step(True, client.do_handshake)
        step(False, server.do_handshake)
    step(True, lambda: client.write(request))
    step(False, lambda: server.write(response) if server.read() == request else None)
    assert client.read() == response
    return said


@cache
def recorder_of(folder: Path) -> RequestRecorder:
    """The requests of a sample bundle, once per run."""
    return RequestRecorder(trace_requests(traced_sample(folder)))
