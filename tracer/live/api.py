"""The door to the `kubernetes` client: its credentials and connections, and answers as raw JSON.

The client's models would drop fields that it does not know yet; objects are kept as the server sent them.
"""

from __future__ import annotations

import json
import random
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tracer.live.errors import BusyError, ClusterError, ConflictError, DeniedError, GoneError, LoginError, NotServedError, UnreachableError
from tracer.live.executing import PROTOCOLS, Dial, Execution, dialling

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # an API server ends requests after 60 s itself (--request-timeout)
LONGEST_LINE_BYTES = 64 << 20  # etcd takes objects up to 1.5 MiB; more than this is no watch

_UNREACHABLE = "check the server's address in the kubeconfig, and the network or VPN to it"
_REMEDIES = {
    401: "log in again: the credentials are missing, wrong or expired",
    403: "ask for `get`, `list` and `watch` on it cluster-wide, or name a namespace with --namespace",
    404: "the server does not have this kind; it is left out",
    409: "wait until it is gone, or use it as it is",
    410: "the list is made anew",
}


class Api:
    """One API server. `get` and `lines` read; `execute` runs a command in a container, and `change` alone changes objects."""

    def __init__(self, host: str, pool: Any, authorisation: Callable[[], Mapping[str, str]], dial: Dial) -> None:
        """`pool` is a urllib3 pool manager (TLS and proxy are its business); `authorisation` gives headers, asked for each request."""
        self._host, self._pool, self._authorisation, self._dial = host.rstrip("/"), pool, authorisation, dial
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def host(self) -> str:
        """The server's URL."""
        return self._host

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The JSON object at `path`. Raises a `ClusterError`."""
        return self._answer(path, self._request(path, query, READ_SECONDS))

    def change(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any], content_type: str) -> dict[str, Any]:
        """Create, change or delete (`method`) the object at `path`; the JSON object that the server answers. Raises a `ClusterError`."""
        headers = {"Content-Type": content_type}
        return self._answer(path, self._request(path, query, READ_SECONDS, method, json.dumps(body).encode(), headers))

    def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Execution:
        """Run `command` in a container. Raises a `ClusterError` where it cannot be begun."""
        import websocket  # noqa: PLC0415 - the kubernetes client's own

        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        query = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", word) for word in command)]
        place = f"{pod}: {' '.join(command[:3])}"
        headers = {"User-Agent": "hopline", **self._authorisation(), "Sec-WebSocket-Protocol": PROTOCOLS}
        try:
            socket = self._dial(f"ws{self._host.removeprefix('http')}{path}?{urllib.parse.urlencode(query)}", headers)
        except websocket.WebSocketBadStatusException as error:
            body = error.resp_body if isinstance(error.resp_body, bytes) else b""
            refused = failure(error.status_code, place, body)
            if isinstance(refused, DeniedError) and error.status_code == 403:
                raise DeniedError(refused.what, f"ask for `get` and `create` on pods/exec in the namespace {namespace}") from error
            raise refused from error
        except (websocket.WebSocketException, OSError) as error:
            raise UnreachableError(f"{place}: {self._host} cannot be reached: {error}", _UNREACHABLE) from error
        return Execution(socket, place)

    def _answer(self, path: str, response: Any) -> dict[str, Any]:
        import urllib3.exceptions  # noqa: PLC0415 - the kubernetes client's own, as slow to import

        try:
            answer = json.loads(response.read(decode_content=True))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise UnreachableError(f"{self._host}{path}: the answer broke off: {error}", "it is asked again") from error
        finally:
            self._release(response)
        if not isinstance(answer, dict):
            raise UnreachableError(f"{self._host}{path}: the answer is no JSON object", "is this really an API server?")
        return answer

    def lines(self, path: str, query: Mapping[str, str], read_seconds: float) -> Iterator[bytes]:
        """The complete lines of a streamed answer, as they come; ends where the server ends it.

        A last line without its newline is half a line and dropped. Raises a `ClusterError`, `UnreachableError` also where nothing came for
        `read_seconds`.
        """
        import urllib3.exceptions  # noqa: PLC0415

        response = self._request(path, query, read_seconds)
        pending = b""
        try:
            for chunk in _chunks(response):
                *complete, pending = (pending + chunk).split(b"\n")
                yield from (line for line in complete if line.strip())
                if len(pending) > LONGEST_LINE_BYTES:
                    raise UnreachableError(f"{self._host}{path}: a line of more than {LONGEST_LINE_BYTES} bytes", "is this an API server?")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{self._host}{path}: the connection broke: {error}", "it is resumed") from error
        finally:
            self._release(response)

    def close(self) -> None:
        """End every request under way, also those that other threads wait in."""
        with self._lock:
            self._closed = True
            under_way = list(self._open)
        for response in under_way:
            # urllib3 2.3 and later can end a read that another thread waits in; else it ends with the read timeout.
            getattr(response, "shutdown", response.close)()

    def _request(
        self,
        path: str,
        query: Mapping[str, str],
        read_seconds: float,
        method: str = "GET",
        body: bytes | None = None,
        more_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        import urllib3  # noqa: PLC0415

        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "hopline",
            **self._authorisation(),
            **more_headers,
        }
        options = {"timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds), "body": body, "headers": headers}
        url = f"{self._host}{path}?{urllib.parse.urlencode(query)}" if query else self._host + path
        try:
            response = self._pool.request(method, url, **options, retries=False, redirect=False, preload_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{self._host} cannot be reached: {error}", _UNREACHABLE) from error
        with self._lock:
            self._open.add(response)
            closed = self._closed
        if closed or response.status not in (200, 201, 202):
            try:
                body = b"" if closed else response.read(decode_content=True)
            except (urllib3.exceptions.HTTPError, OSError):
                body = b""
            finally:
                self._release(response)
            raise failure(response.status, f"{self._host}{path}", body, response.headers.get("Retry-After"))
        return response

    def _release(self, response: Any) -> None:
        with self._lock:
            self._open.discard(response)
        response.close()


def _chunks(response: Any) -> Iterator[bytes]:
    """The body as it comes. API servers send watches chunked; without chunks, a sized read would wait until that much has come."""
    if response.chunked or not hasattr(response, "read1"):
        yield from response.stream(None, decode_content=True)
    else:
        yield from iter(response.read1, b"")


def failure(status: int, place: str, body: bytes = b"", retry_after: str | None = None) -> ClusterError:
    """The error that an HTTP status, or the code of a Status object, stands for."""
    try:
        message = json.loads(body).get("message")
    except (ValueError, AttributeError):
        message = None
    what = f"{place}: {status}{f' {message}' if isinstance(message, str) else ''}"
    kinds: dict[int, type[ClusterError]] = {401: LoginError, 403: DeniedError, 404: NotServedError, 409: ConflictError, 410: GoneError}
    if status in kinds:
        return kinds[status](what, _REMEDIES[status])
    if status == 429 or status >= 500:
        seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
        return BusyError(what, "the server is busy; it is asked again", seconds)
    return ClusterError(what, "is this the API server's address?")


class Backoff:
    """How long to wait before trying again: from 0.8 s doubling to 30 s, plus up to as much at random (client-go's reflector)."""

    def __init__(self, first_seconds: float = 0.8, most_seconds: float = 30.0, seed: int | None = None) -> None:
        self._first, self._most = first_seconds, most_seconds
        self._next = first_seconds
        self._random = random.Random(seed)  # noqa: S311 - to spread load, not to keep secrets

    def seconds(self) -> float:
        """The next delay."""
        delay = self._next * (1.0 + self._random.random())
        self._next = min(self._next * 2, self._most)
        return delay

    def reset(self) -> None:
        """Begin again with short delays: it worked."""
        self._next = self._first


def connect(kubeconfig: Path | None = None, context: str | None = None) -> Api:
    """The API server of a kubeconfig (default: as kubectl finds it), else of the pod that this runs in.

    Raises `LoginError` where no usable credentials are found. Nothing is asked of the server yet.
    """
    import yaml  # noqa: PLC0415 - only for the error that the client lets through
    from kubernetes import client, config  # noqa: PLC0415 - takes a second
    from kubernetes.stream import ws_client  # noqa: PLC0415

    configuration = client.Configuration()
    from_file: Any = config.load_kube_config  # untyped
    from_pod: Any = config.load_incluster_config
    try:
        path = None if kubeconfig is None else str(kubeconfig)
        from_file(config_file=path, context=context, client_configuration=configuration)
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        if kubeconfig is not None or context is not None:
            raise LoginError(f"the kubeconfig cannot be used: {error}", "check --kubeconfig and --context") from error
        try:
            from_pod(client_configuration=configuration)
        except config.ConfigException as inside:
            remedy = "give --kubeconfig, set KUBECONFIG, or run in a pod with a service account"
            raise LoginError(f"no cluster to ask: {error}", remedy) from inside
    pool = client.ApiClient(configuration).rest_client.pool_manager

    def authorisation() -> dict[str, str]:
        # Asked for each request: the client refreshes expiring tokens here (service accounts, exec plugins).
        settings: dict[str, Any] = dict(configuration.auth_settings())
        return {str(s["key"]): str(s["value"]) for s in settings.values() if s.get("in") == "header" and s.get("value")}

    return Api(str(configuration.host), pool, authorisation, dialling(configuration, ws_client.websocket_proxycare))
