"""Real servers, each with its own folder, on a free port, for the time of a `with` block."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

from .lab import needs, running, until

ITEMS = '{"id": 1234, "name": "widget-7"}'
BIG_BYTES = 300_007


@dataclass(frozen=True)
class Web:
    """nginx with the same files behind several doors; `log` has a line per request: status and request line."""

    plain: int
    http2: int
    tls: int
    proxied: int
    certificate: Path
    log: Path

    def logged(self) -> list[tuple[str, str]]:
        """(operation, status) of each request, in the order in which they ended."""
        lines = (line.partition(" ") for line in self.log.read_text().splitlines())
        return [(line.rpartition(" ")[0], status) for status, _, line in lines]


_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{}}
http {{
  log_format short '$status $request'; access_log {folder}/access.log short;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  types {{ application/json json; text/html html; }}
  server {{
    listen 127.0.0.1:{web.plain}; listen 127.0.0.1:{web.http2} http2; listen 127.0.0.1:{web.tls} ssl http2;
    listen 127.0.0.1:{web.proxied} proxy_protocol;
    ssl_certificate {web.certificate}; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
    root {folder}/files; client_max_body_size 100k;
    location /empty {{ return 204; }}
    location /upload {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[Web]:
    needs("nginx", "openssl")
    web = Web(free_port(), free_port(), free_port(), free_port(), folder / "certificate.pem", folder / "access.log")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]
    subprocess.run([*command, "-keyout", folder / "key.pem", "-out", web.certificate], check=True, stderr=subprocess.DEVNULL)
    (folder / "files").mkdir()
    (folder / "files" / "items.json").write_text(ITEMS)
    (folder / "files" / "big").write_bytes(os.urandom(BIG_BYTES))
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, web=web))
    with running(["nginx", "-c", configuration], port=web.plain, log=folder / "nginx.log"):
        yield web


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    needs("redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--enable-debug-command", "yes"]
    with running(command, port=port, log=folder / "redis.log"):
        yield port


@contextmanager
def mariadb(folder: Path) -> Iterator[int]:
    needs("mariadbd", "mariadb-install-db", "openssl")
    port, files = free_port(), folder / "mariadb"
    files.mkdir()
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={files}", "--skip-test-db", "--auth-root-authentication-method=normal"]
    # each that starts removes what others have in the same folder for temporary tables
    subprocess.run([*install, "--user=root"], stdout=subprocess.DEVNULL, check=True, env=os.environ | {"TMPDIR": str(folder)})
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db.example"]
    key, certificate = folder / "db-key.pem", folder / "db-certificate.pem"
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    options = [
        f"--datadir={files}", f"--tmpdir={folder}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/mariadb.socket",
        "--user=root", f"--pid-file={folder}/mariadb.pid", "--skip-grant-tables", "--skip-log-bin", f"--ssl-key={key}",
        f"--ssl-cert={certificate}",
    ]  # fmt: skip
    with running(["mariadbd", "--no-defaults", *options], port=port, log=folder / "mariadb.log"):
        yield port


def _open_way(folder: Path) -> None:
    """Let a server's own account get to `folder` and what is below: pytest makes folders for itself alone, a test worker one more."""
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.getuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)


@contextmanager
def postgresql(folder: Path) -> Iterator[int]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    needs("initdb" if not programs else "psql")
    account = pwd.getpwnam("postgres")
    who = {"user": account.pw_uid, "group": account.pw_gid, "cwd": "/"}
    port, files = free_port(), folder / "postgresql"
    files.mkdir()
    os.chown(files, account.pw_uid, account.pw_gid)
    _open_way(folder)
    subprocess.run([programs[-1], "-D", files, "-A", "trust", "-U", "me", "-N"], stdout=subprocess.DEVNULL, check=True, **who)
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
    command = [
        programs[-1].with_name("postgres"),
        "-D",
        files,
        "-p",
        str(port),
        *(word for setting in settings for word in ("-c", setting)),
    ]
    with running(command, port=port, log=folder / "postgresql.log", ends=signal.SIGINT, **who):
        ready = [programs[-1].with_name("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL")  # it listens before it takes anybody
        yield port


@contextmanager
def rabbitmq(folder: Path) -> Iterator[int]:
    needs("rabbitmq-server", "epmd")
    account = pwd.getpwnam("rabbitmq")
    port, names, nodes = free_port(), free_port(), free_port()
    _open_way(folder)
    folder.chmod(0o777)
    environment = os.environ | {
        "HOME": str(folder), "RABBITMQ_NODENAME": f"hopline{port}@localhost", "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(nodes), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"), "RABBITMQ_CONFIG_FILE": str(folder / "none"), "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1",
    }  # fmt: skip
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    who = {"user": account.pw_uid, "group": account.pw_gid, "cwd": str(folder), "env": environment}
    with (
        running(["epmd", "-port", str(names), "-address", "127.0.0.1"], port=names, log=folder / "epmd.log"),
        running([server], port=port, log=folder / "rabbitmq.log", **who),
    ):
        yield port


@contextmanager
def dnsmasq(folder: Path, address: str) -> Iterator[None]:
    """A name server for zones of its own, on port 53 of a loopback address."""
    needs("dnsmasq")
    text = [f"--txt-record=big.test,{number:04d}{'x' * 200}" for number in range(12)]
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--listen-address={address}", "--bind-interfaces", "--no-resolv",
        "--no-hosts", f"--pid-file={folder}/dnsmasq.pid", "--user=root", "--address=/shop.example/192.0.2.7",
        "--address=/shop.example/2001:db8::7", "--cname=www.test,shop.test", "--host-record=shop.test,192.0.2.8", "--address=/nx.test/",
        *text,
    ]  # fmt: skip
    with running(command, log=folder / "dnsmasq.log"):
        yield
