"""Commands in containers over TLS, as API servers speak it: their own authority, client certificates, names that do not fit."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tracer.live import Api, ClusterError, connect
from tracer.live.errors import UnreachableError

from .cluster_server import Container
from .collected import Cluster

SIZE = 50_000_017
DAYS = ("-days", "2")


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority `ca`, a server `server` (127.0.0.1, api.test) and a client `client`, all `.crt` and `.key`."""
    folder = tmp_path_factory.mktemp("authority")
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, *new, "-x509", *DAYS, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority")
    for name, subject, alternative in (("server", "/CN=api", "IP:127.0.0.1,DNS:api.test"), ("client", "/O=group/CN=user", "DNS:none")):
        openssl(folder, *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (folder / "extensions").write_text(f"subjectAltName={alternative}\n")
        by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        openssl(folder, "x509", "-req", *DAYS, *by, "-in", f"{name}.csr", "-out", f"{name}.crt")
    return folder


@pytest.fixture
def secured(cluster: Cluster, authority: Path) -> Cluster:
    """The API server with TLS, which only takes clients with a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority / "ca.crt"))
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    cluster.server.speak_tls(context)
    cluster.server.containers["pod"] = Container([], {"PATH": "/usr/bin:/bin"})
    return cluster


def reached(cluster: Cluster, authority: Path, *, client: bool = True, host: str = "127.0.0.1", **of_cluster: Any) -> Api:
    """Connect with a kubeconfig as kubeadm writes one; `of_cluster` are settings of its cluster."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": f"https://{host}:{cluster.server.http.server_port}", **of_cluster}
    if client:
        config["users"][0]["user"] |= {"client-certificate": str(authority / "client.crt"), "client-key": str(authority / "client.key")}
    cluster.kubeconfig.write_text(yaml.safe_dump(config))
    return connect(cluster.kubeconfig)


def output(api: Api, *words: str) -> bytes:
    execution = api.execute("hopline", "pod", "agent", words)
    out = b"".join(content for _, content in execution.pieces())
    assert execution.code == 0
    return out


def test_much_output_arrives_whole_over_tls(secured: Cluster, authority: Path) -> None:
    api = reached(secured, authority, **{"certificate-authority": str(authority / "ca.crt")})
    count = f"yes 0123456789abcde | head -c {SIZE}"
    expected = hashlib.sha256(subprocess.run(["sh", "-c", count], capture_output=True, check=True).stdout).digest()
    assert hashlib.sha256(output(api, "sh", "-c", count)).digest() == expected
    assert api.get("/api/v1/pods", {})["items"] is None  # the same settings for plain requests


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "CERTIFICATE_VERIFY_FAILED"),
        ({"certificate-authority": "ca.crt", "tls-server-name": "other.test"}, "Hostname mismatch"),
        ({"certificate-authority": "ca.crt", "client": False}, None),
    ],
)
def test_whom_tls_does_not_trust_is_not_spoken_to(settings: dict[str, Any], reason: str | None, secured: Cluster, authority: Path) -> None:
    if "certificate-authority" in settings:
        settings = {**settings, "certificate-authority": str(authority / "ca.crt")}
    api = reached(secured, authority, **settings)
    with pytest.raises(UnreachableError, match=reason):
        output(api, "true")
    with pytest.raises(ClusterError, match=reason):
        api.get("/api/v1/pods", {})
    assert secured.server.execs == []


@pytest.mark.parametrize(
    "settings", [{"insecure-skip-tls-verify": True}, {"certificate-authority": "ca.crt", "tls-server-name": "api.test"}]
)
def test_what_the_kubeconfig_allows_is_allowed(settings: dict[str, Any], secured: Cluster, authority: Path) -> None:
    if "certificate-authority" in settings:
        settings = {**settings, "certificate-authority": str(authority / "ca.crt")}
    assert output(reached(secured, authority, **settings), "echo", "there") == b"there\n"
