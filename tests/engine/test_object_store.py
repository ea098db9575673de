"""Bundles in an object store, and packets spilled into one: moto's server speaks S3 on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES, Hopline
from ports import free_port

SAMPLE = SAMPLES / "failures"
USAGE, NO_INPUT = 2, 3


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """The environment in which `s3://bundles/failures` is SAMPLE."""
    port = free_port()
    credentials = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
    environment = os.environ | credentials | {"FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1800):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        copy = f"import s3fs; s3 = s3fs.S3FileSystem(); s3.mkdir('bundles'); s3.put({str(SAMPLE)!r}, 'bundles/failures', recursive=True)"
        subprocess.run([sys.executable, "-c", copy], env=environment, check=True)
        yield environment
    finally:
        server.kill()
        server.wait()


def run(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from analysis.commands import main; main()", *map(str, words)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_bundle_in_an_object_store(store: dict[str, str], hopline: Hopline) -> None:
    found = run(store, "trace", "s3://bundles/failures", "--l4-only", "--json")
    assert (found.returncode, found.stdout) == (0, hopline("trace", SAMPLE, "--l4-only", "--json").out)


def test_its_requests(store: dict[str, str], hopline: Hopline) -> None:
    found = run(store, "trace", "s3://bundles/failures", "--json")
    assert (found.returncode, found.stdout) == (0, hopline("trace", SAMPLE, "--json").out)


def test_workers_that_share_nothing_but_the_store(store: dict[str, str], hopline: Hopline) -> None:
    words = ("trace", "s3://bundles/failures", "--l4-only", "--json", "--engine", "dask", "--partitions", "3")
    expected = hopline("trace", SAMPLE, "--l4-only", "--json").out
    for workers in (2, 1):  # the second run finds everything there
        found = run(store, *words, "--workers", str(workers), "--spill", "s3://bundles/spilled")
        assert (found.returncode, found.stdout) == (0, expected)
    other = run(store, "trace", SAMPLES / "ipvs", "--l4-only", "--spill", "s3://bundles/spilled")
    assert other.returncode == USAGE
    assert "is a run's of other input" in other.stderr


def test_an_archive_in_an_object_store(store: dict[str, str], hopline: Hopline) -> None:
    done = run(store, "archive", "s3://bundles/failures", "-o", "s3://bundles/archive", "--bucket", "10s", "--partitions", "2")
    assert (done.returncode, "in 2 parts" in done.stderr) == (0, True), done.stderr
    found = run(store, "trace", "s3://bundles/archive", "--l4-only", "--json", "--workers", "2", "--spill", "s3://bundles/traced")
    assert (found.returncode, found.stdout) == (0, hopline("trace", SAMPLE, "--l4-only", "--json").out), found.stderr


def test_an_address_that_leads_nowhere_is_said(store: dict[str, str]) -> None:
    missing = run(store, "trace", "s3://bundles/other", "--l4-only")
    assert missing.returncode == NO_INPUT
    assert "no such file or folder" in missing.stderr
    unknown = run(store, "trace", "gopher://hole/bundle", "--l4-only")
    assert unknown.returncode == NO_INPUT
    assert "gopher" in unknown.stderr
    assert "Traceback" not in missing.stderr + unknown.stderr
