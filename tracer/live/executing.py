"""A command in a pod's container, over the API server's WebSocket (subprotocols v5.channel.k8s.io and v4.channel.k8s.io).

Each frame begins with its channel: 1 standard output, 2 standard error, 3 how the command ended, as a Status object
(Kubernetes, apimachinery/pkg/util/remotecommand/constants.go). Standard input is not used.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracer.live.errors import ClusterError, UnreachableError

OUTPUT, ERRORS, STATUS = 1, 2, 3
PROTOCOLS = "v5.channel.k8s.io,v4.channel.k8s.io"
CONNECT_SECONDS = 10.0
TICK_SECONDS = 0.5
QUIET_SECONDS = 45.0  # every command that is run here says something more often than this
CLOSING_SECONDS = 5.0  # from the status to the end of the connection

Dial = Callable[[str, Mapping[str, str]], Any]  # (URL, headers) to an open websocket.WebSocket


def dialling(configuration: Any, proxied: Callable[..., Any]) -> Dial:
    """How to open WebSockets with the TLS settings of a kubernetes client's configuration, and through its proxy (`websocket_proxycare`).

    Not through `kubernetes.stream`, which sets no time limits and gathers in memory whatever comes faster than it is read.
    """

    def dial(url: str, headers: Mapping[str, str]) -> Any:
        import websocket  # noqa: PLC0415 - the kubernetes client's own

        options: dict[str, Any] = {"header": [f"{name}: {value}" for name, value in headers.items()], "timeout": CONNECT_SECONDS}
        if configuration.proxy or configuration.proxy_headers:
            options = proxied(options, configuration, url, headers)
        return websocket.create_connection(url, sslopt=_tls(configuration), skip_utf8_validation=True, **options)

    return dial


def _tls(configuration: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE}
    settings = {
        "ca_certs": configuration.ssl_ca_cert if configuration.verify_ssl else None,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": getattr(configuration, "tls_server_name", None),
        "check_hostname": configuration.assert_hostname if configuration.verify_ssl else False,
    }
    return options | {name: value for name, value in settings.items() if value is not None}


class Execution:
    """A command under way."""

    def __init__(self, socket: Any, place: str) -> None:
        """`socket` is an open websocket.WebSocket; `place` names the command in errors."""
        self._socket, self._place = socket, place
        self.code: int | None = None  # the exit code, once it is known

    def pieces(self, tick: Callable[[], None] = lambda: None) -> Iterator[tuple[int, bytes]]:
        """(OUTPUT or ERRORS, bytes) as they come, until the command ends and `code` says how.

        `tick` is called twice a second and more often; what it raises ends the command's connection. UnreachableError where the
        connection breaks, or nothing comes for `QUIET_SECONDS`; another ClusterError where the command could not be run.
        """
        import websocket  # noqa: PLC0415

        self._socket.settimeout(TICK_SECONDS)
        heard = time.monotonic()
        try:
            while True:
                tick()
                try:
                    kind, frame = self._socket.recv_data_frame(True)  # also answers pings
                except websocket.WebSocketTimeoutException:
                    if time.monotonic() - heard > (QUIET_SECONDS if self.code is None else CLOSING_SECONDS):
                        break
                    continue
                except (websocket.WebSocketException, OSError) as error:
                    if self.code is not None:
                        return
                    raise UnreachableError(f"{self._place}: the connection broke: {error}", "it is tried again") from error
                heard = time.monotonic()
                if kind == websocket.ABNF.OPCODE_CLOSE:
                    break
                if kind not in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) or not frame.data:
                    continue
                channel, content = frame.data[0], frame.data[1:]
                if channel == STATUS:
                    self.code = _exit_code(content, self._place)
                elif content and channel in (OUTPUT, ERRORS):
                    yield channel, content
        finally:
            self.close()
        if self.code is None:
            raise UnreachableError(f"{self._place}: the connection ended before the command did", "it is tried again")

    def close(self) -> None:
        """Hang up. The command may go on."""
        self._socket.shutdown()


def _exit_code(content: bytes, place: str) -> int:
    """The exit code in a Status object."""
    try:
        status = json.loads(content)
        if status.get("status") == "Success":
            return 0
        causes = (status.get("details") or {}).get("causes") or []
        codes = [str(cause.get("message")) for cause in causes if cause.get("reason") == "ExitCode"]
    except (ValueError, AttributeError, TypeError) as error:
        raise UnreachableError(f"{place}: the status is none: {content[:200]!r}", "it is tried again") from error
    if codes and codes[0].isdecimal():
        return int(codes[0])
    raise ClusterError(f"{place}: {status.get('message') or status}", "is the container running, and is hopline in its image?")
