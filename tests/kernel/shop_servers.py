"""The shop's servers in their pods: nginx, MariaDB, dnsmasq, and an application that asks all of them and notes with which sockets."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import queue
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pymysql

from .lab import Lab
from .services import PODS
from .shop import configuration, vip
from .traffic import text

PROGRAMS = ("nginx", "mariadbd", "mariadb-install-db", "dnsmasq", "openssl", "tshark")
STORE_NAME = "store.shop.svc.cluster.local"
ITEMS = {number: f"widget-{number * 7919 % 997}" for number in range(1, 102)}
_POOLED = 3  # connections to the database that the application keeps
_WAIT_SECONDS = 120  # of patience, with a machine that is busy


def absent() -> str | None:
    """Which of the servers are not installed."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)} (make test installs them)" if missing else None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the application made while it served `token`: the socket's own end, and what was asked."""

    token: str
    local: str
    kind: str  # dns, mysql, http
    operation: str


@dataclass
class App:
    """The application's side of things."""

    lab: Lab
    calls: list[Call] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)  # as nginx's logs have it
    naps: random.Random = field(default_factory=lambda: random.Random(7))
    pool: queue.Queue[pymysql.Connection] = field(default_factory=queue.Queue)
    fresh: Iterator[int] = field(default_factory=itertools.count)

    def socket(self, kind: int, target: str) -> tuple[socket.socket, str]:
        """A connected socket of the application's, and its own end."""
        address, port = target.split(":")
        made = self.lab.socket("app", socket.AF_INET, kind)
        made.settimeout(_WAIT_SECONDS)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect((address, int(port)))
        return made, text(made.getsockname())

    def resolve(self, token: str) -> str:
        """The store's address, asked of the name server."""
        asking, local = self.socket(socket.SOCK_DGRAM, vip("names"))
        with asking:
            self.calls.append(Call(token, local, "dns", f"A {STORE_NAME}"))
            question = dns.message.make_query(STORE_NAME, "A")
            asking.send(question.to_wire())
            return str(dns.message.from_wire(asking.recv(4096)).answer[0][0])

    def connect(self, address: str) -> pymysql.Connection:
        """A connection to the database."""
        made = pymysql.connect(user="root", database="shop", ssl_disabled=True, defer_connect=True, autocommit=True)
        connected, made.local = self.socket(socket.SOCK_STREAM, f"{address}:3306")
        made.connect(connected)
        return made

    def item(self, token: str, number: int) -> str:
        """An item's name: each time its store's name is looked up, and every other time a connection is made."""
        address, pooled = self.resolve(token), next(self.fresh) % 2 == 0
        connection = self.pool.get() if pooled else self.connect(address)
        query = f"SELECT name FROM items WHERE id = {number}"
        self.calls.append(Call(token, connection.local, "mysql", query))
        with connection.cursor() as cursor:
            cursor.execute(query)
            (name,) = cursor.fetchone()
        if pooled:
            self.pool.put(connection)
        else:
            connection.close()
        return str(name)

    def page(self, token: str) -> int:
        """The status of a page of the web Service."""
        connected, local = self.socket(socket.SOCK_STREAM, vip("web"))
        self.calls.append(Call(token, local, "http", "GET /same"))
        asking = http.client.HTTPConnection("web")
        asking.sock = connected
        asking.request("GET", "/same", headers={"X-Token": token})
        with asking.getresponse() as answer:
            answer.read()
        asking.close()
        return answer.status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    disable_nagle_algorithm = True
    app: App
    number = 0  # of the request on its connection

    def do_GET(self) -> None:
        what, token = self.path.strip("/").split("/"), self.headers.get("X-Token", "")
        self.number += 1
        self.app.served.append({"peer": text(self.client_address), "number": self.number, "token": token, "path": self.path})
        said: object = None
        if what[0] == "sleep":
            time.sleep(float(what[1]) / 1000)
        elif what[0] == "nap":
            time.sleep(self.app.naps.uniform(0.002, 0.02))
        elif what[0] == "items":
            said = {"id": int(what[1]), "name": self.app.item(token, int(what[1]))}
        elif what[0] == "pages":
            said = self.app.page(token)
        body = json.dumps({"answer": said}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, handler: type[_Handler]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening


@contextmanager
def application(lab: Lab) -> Iterator[App]:
    """The application on port 8080 of its pod."""
    app = App(lab)
    for _ in range(_POOLED):
        app.pool.put(app.connect(vip("store").partition(":")[0]))
    listening = lab.socket("app", socket.AF_INET, socket.SOCK_STREAM)
    listening.bind((PODS["app"].addresses[0], 8080))
    listening.listen(128)
    server = _Server(listening, type("Handler", (_Handler,), {"app": app}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield app
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        while not app.pool.empty():
            app.pool.get().close()


@contextmanager
def _running(lab: Lab, place: str, command: list[str], port: int, log: Path) -> Iterator[None]:
    """A server that runs in `place` and listens on `port` there when the block begins."""
    with log.open("wb") as said, subprocess.Popen(lab.command(place, *command), stdout=said, stderr=said) as process:
        try:
            deadline = time.monotonic() + _WAIT_SECONDS
            while not _answers(lab, place, port):
                assert process.poll() is None, f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}"
                assert time.monotonic() < deadline, f"{command[0]} does not listen on {place}:{port}"
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            try:
                process.wait(_WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(lab: Lab, place: str, port: int) -> bool:
    with lab.socket(place, socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect((PODS[place].addresses[0], port))
        return True
    return False


def _store(lab: Lab, folder: Path, running: ExitStack) -> None:
    """MariaDB with the items."""
    files = folder / "mariadb"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={files}", "--skip-test-db", "--auth-root-authentication-method=normal"]
    # each that starts removes what others have in the same folder for temporary tables
    subprocess.run([*install, "--user=root"], stdout=subprocess.DEVNULL, check=True, env=os.environ | {"TMPDIR": str(folder)})
    command = [
        "mariadbd", "--no-defaults", f"--datadir={files}", f"--tmpdir={folder}", "--port=3306", "--bind-address=0.0.0.0",
        f"--socket={folder}/mariadb.socket", "--user=root", f"--pid-file={folder}/mariadb.pid", "--skip-grant-tables", "--skip-log-bin",
        "--skip-name-resolve",
    ]  # fmt: skip
    running.enter_context(_running(lab, "store", command, 3306, folder / "mariadb.log"))
    with lab.socket("store", socket.AF_INET, socket.SOCK_STREAM) as connected:
        connected.connect((PODS["store"].addresses[0], 3306))
        filling = pymysql.connect(user="root", defer_connect=True, autocommit=True)
        filling.connect(connected)
        with filling.cursor() as cursor:
            cursor.execute("CREATE DATABASE shop")
            cursor.execute("CREATE TABLE shop.items (id INT PRIMARY KEY, name VARCHAR(40))")
            cursor.executemany("INSERT INTO shop.items VALUES (%s, %s)", list(ITEMS.items()))
        filling.close()


@contextmanager
def shop_servers(lab: Lab, folder: Path) -> Iterator[App]:
    """All servers of the shop while the block runs; nginx's logs are `folder/POD.log`."""
    files = folder / "files"
    (files / "items").mkdir(parents=True)
    for number, name in ITEMS.items():
        (files / "items" / str(number)).write_text(json.dumps({"id": number, "name": name}))
    (files / "same").write_text('{"answer": "the same for everybody"}')
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=secret.test", "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *named], check=True, stderr=subprocess.DEVNULL)
    names = [
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--no-daemon", "--user=root", f"--pid-file={folder}/dnsmasq.pid",
        f"--address=/{STORE_NAME}/{vip('store').partition(':')[0]}", "--local-ttl=1", "--conf-file=/dev/null",
    ]  # fmt: skip
    with ExitStack() as running:
        _store(lab, folder, running)
        running.enter_context(_running(lab, "store", names, 53, folder / "dnsmasq.log"))
        for pod in ("web-a", "web-b", "lone", "edge"):
            path = folder / f"{pod}.conf"
            path.write_text(configuration(pod, folder))
            running.enter_context(_running(lab, pod, ["nginx", "-c", str(path)], 8080, folder / f"{pod}.nginx.log"))
        yield running.enter_context(application(lab))
