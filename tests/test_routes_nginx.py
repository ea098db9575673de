"""The location that a real nginx chooses, with the configuration that ingress-nginx writes, is the one that we name."""

from __future__ import annotations

import http.client
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ports import free_port
from proxy_objects import NOW_NS, Object, Rule, ingress

from tracer.cluster import Timeline

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx-light")


@dataclass(frozen=True)
class Site:
    """An Ingress of its own host, and what is asked of it. Services are named by what they are for."""

    host: str
    rules: tuple[Rule, ...]
    asked: tuple[str, ...]
    rewrite: str = ""
    regular: bool = False
    server_name: str = ""
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # asked for, where not `host`

    def object(self) -> Object:
        notes = {"rewrite-target": self.rewrite, "use-regex": str(self.regular).lower(), "server-alias": ",".join(self.aliases)}
        return ingress(self.host, *self.rules, name=self.host.replace("*", "any"), notes=notes)


P, E, S = "Prefix", "Exact", "ImplementationSpecific"
SITES: tuple[Site, ...] = (
    Site(
        "plain.test",
        (("/", P, "root"), ("/foo", P, "foo"), ("/foo/bar", P, "bar"), ("/foo", E, "exact"), ("/Foo", P, "capital"), ("/dir/", P, "dir")),
        (
            *("/", "/foo", "/foo/", "/foobar", "/foo/bar", "/foo/barn", "/foo/bar/1", "/Foo/x", "/FOO", "/dir", "/dir/", "/dir/x?q=1"),
            *(
                "//foo",
                "/foo//bar",
                "/x/../foo",
                "/./foo",
                "/foo/..",
                "/%66oo",
                "/foo%2Fbar",
                "/foo%2fbarn",
                "/a%3Fb",
                "/%2e%2e/x",
                "/..",
                "/%zz",
            ),
            *(
                "/foo/bar?x=/y",
                "/foo#bar",
                "http://plain.test/foo/bar",
                "/foo/./bar/",
                "/foo/bar/.",
                "/foo/bar/..",
                "/foo%23/bar",
                "/foo%00",
            ),
        ),
    ),
    Site(
        "some.test",
        (("/only", P, "only"), ("/exact", E, "exact"), ("/any", S, "any")),
        ("/", "/only", "/only/x", "/exact/", "/exact", "/any/1", "/anyone"),
    ),
    # The documentation's examples: docs/user-guide/ingress-path-matching.md
    Site(
        "regex.test",
        (("/foo/bar/bar", S, "bar"), ("/foo/bar/[A-Z0-9]{3}", S, "three"), ("/foo", P, "foo"), ("/exact", E, "exact")),
        ("/foo/bar/bar", "/foo/bar/a1b", "/FOO/BAR/xyz9", "/foo/ba", "/foobar", "/exact", "/exact/more", "/EXACTLY", "/other"),
        regular=True,
    ),
    Site(
        "rewrite.test",
        (("/something(/|$)(.*)", S, "something"), ("/s", P, "s")),
        (
            "/something",
            "/something/",
            "/something/new",
            "/SOMETHING/New?x=1",
            "/somethingelse",
            "/s/x",
            "/something/a%20b%3Fc",
            "/something//x/%7B",
        ),
        rewrite="/$2",
    ),
    Site("flat.test", (("/a", P, "a"), ("/a/b", P, "b")), ("/a", "/a/b", "/a/b/c", "/ab", "/x"), rewrite="/flat?from=$uri"),
    Site("named.test", (("/(?<kind>[a-z]+)/(?<id>\\d+)$", S, "named"),), ("/user/7", "/user/x", "/USER/12"), rewrite="/$id/${kind}-$9"),
    Site(
        "*.wild.test",
        (("/", P, "wild"),),
        ("/",),
        server_name="~^(?<subdomain>[\\w-]+)\\.wild\\.test$",
        hosts=("a.wild.test", "A.Wild.Test:8080", "a.wild.test.", "wild.test", "a.b.wild.test", "special.wild.test"),
    ),
    Site("special.wild.test", (("/x", P, "special"),), ("/x", "/y")),
    Site(
        "b.alias.test",
        (("/", P, "b"),),
        ("/",),
        aliases=("named.alias.test", "~^x\\d+\\.(alias|wild)\\.test$", "*.deep.alias.test"),
        hosts=(
            "named.alias.test",
            "x1.alias.test",
            "x1.wild.test",
            "a.b.deep.alias.test",
            "x2.deep.alias.test",
            "deep.alias.test",
            "xx.alias.test",
        ),
    ),
    Site(
        "a.alias.test",
        (("/", P, "a"),),
        ("/",),
        aliases=("~^x", "*.alias.test"),
        hosts=("x1.alias.test", "x1.none.test", "q.alias.test", "alias.test"),
    ),
)


def some_site(number: int, choose: random.Random) -> Site:
    """Rules and requests that often meet: few words, short paths."""

    def words(most: int, more: tuple[str, ...] = ()) -> str:
        return "/" + "/".join(choose.choices(("a", "b", "ab", "A", *more), k=choose.randint(0, most))) + choose.choice(("", "", "/"))

    rules: dict[tuple[str, str], Rule] = {}
    for place in range(choose.randint(1, 8)):
        kind = choose.choice((P, P, E, S))
        path = words(3).replace("//", "/")
        # A Prefix /a beside a Prefix /a/ is one that nginx refuses.
        rules.setdefault((path if kind == E else path.rstrip("/"), "E" if kind == E else "P"), (path, kind, f"s{place}"))
    style = choose.choice(("plain", "plain", "regex", "rewrite"))
    asked = tuple(words(4, ("", ".", "..", "%61", "c")) for _ in range(40))
    return Site(f"some-{number}.test", tuple(rules.values()), asked, "/new/$1" if style == "rewrite" else "", style == "regex")


CHOSEN = random.Random(23)
SITES += tuple(some_site(number, CHOSEN) for number in range(41))


def locations(site: Site) -> Iterator[tuple[str, str, str, bool]]:
    """(location as nginx reads it, Service, path, whether it rewrites): location.go and template.go of ingress-nginx, told again."""
    # Every server begins with a root, which a rule for it replaces where it stands.
    paths = {("/", False): "none"} | {(path, kind == E): to for path, kind, to in site.rules}
    regular = site.regular or any(site.rewrite not in ("", path) for path, _ in paths)
    exact_paths = {path for path, exact in paths if exact}
    for path, exact in sorted(sorted(paths, key=lambda each: each[0], reverse=True), key=lambda each: -len(each[0])):
        to = paths[path, exact]
        rewrites = site.rewrite not in ("", path)
        written = [(path, exact)]
        if not exact and path != "/" and not rewrites and not site.regular:
            written = [(path.rstrip("/") + "/", False)] + ([] if path in exact_paths else [(path, True)])
        for text, is_exact in written:
            yield f'~* "^{text}"' if regular else f"= {text}" if is_exact else text, to, text, rewrites


def configuration(port: int, upstream: int) -> str:
    servers = []
    for site in sorted(SITES, key=lambda each: each.host):
        blocks = []
        for written, to, path, rewrites in locations(site):
            answer = f"proxy_set_header X-Service {to}; proxy_pass http://upstream_balancer;"
            rewrite = f'rewrite "(?i){path}" {site.rewrite} break; ' if rewrites else ""
            blocks.append(f"location {written} {{ {'return 404;' if to == 'none' else rewrite + answer} }}")
        name = " ".join(f'"{each}"' for each in (site.server_name or site.host, *site.aliases))
        servers.append(f"server {{ listen 127.0.0.1:{port}; server_name {name};\n" + "\n".join(blocks) + "\n}")
    return f"""
        daemon off; master_process off; pid nginx.pid; error_log error.log; events {{}}
        http {{
            access_log off; server_names_hash_bucket_size 128; port_in_redirect off; keepalive_requests 100000;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            upstream upstream_balancer {{ server 127.0.0.1:{upstream}; keepalive 4; }}
            server {{ listen 127.0.0.1:{port} default_server; server_name _; return 404; }}
            server {{ listen 127.0.0.1:{upstream}; return 200 "$http_x_service $request_uri"; }}
            {" ".join(servers)}
        }}"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx with all sites."""
    folder = tmp_path_factory.mktemp("nginx")
    port, upstream = free_port(), free_port()
    (folder / "nginx.conf").write_text(configuration(port, upstream))
    server = subprocess.Popen(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"], cwd=folder)
    try:
        wait_for(server, port, folder)
        yield port
    finally:
        server.terminate()
        server.wait(120)


def wait_for(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    for _ in range(2400):
        if server.poll() is not None:
            pytest.fail(f"nginx ended: {(folder / 'error.log').read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("nginx does not answer")


def answered(connection: http.client.HTTPConnection, host: str, target: str) -> tuple[str | None, str | None, str | None]:
    """(Service, path that the upstream saw, redirect) of a request to nginx."""
    connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read().decode()
    if response.status == 200:
        to, _, uri = body.partition(" ")
        return to, re.split("[?#]", uri)[0], None
    return None, None, response.getheader("Location")


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.host)
def test_the_location_is_the_one_that_nginx_takes(site: Site, nginx: int) -> None:
    timeline = Timeline.of([each.object() for each in SITES])
    connection = http.client.HTTPConnection("127.0.0.1", nginx, timeout=120)
    connection._validate_path = lambda url: None  # type: ignore[attr-defined]
    for host in site.hosts or (site.host,):
        for target in site.asked:
            real = answered(connection, host, target)
            found = timeline.route(host, target, NOW_NS)
            if found is None:
                mine: tuple[str | None, str | None, str | None] = (None, None, None)
            elif found.redirect:
                mine = (None, None, found.redirect)
            else:
                mine = (found.service_name, found.upstream_path, None)
            assert mine == real, f"{host} {target}: nginx {real}, here {mine}"
    connection.close()
