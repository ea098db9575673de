"""Connections dissected by several processes: the same for any number of them, also where some are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from probes.dissect import DissectionError, Piece, Reading, begin_ahead, end_ahead, find_tshark, read, read_side_by_side
from probes.dissect import side_by_side as side_by_side_
from probes.dissect.pdml import Layer
from probes.dissect.tshark import dissect

pytestmark = pytest.mark.skipif(find_tshark() is None, reason="tshark is not installed")

CONNECTIONS = 23
PROTOCOLS = dict.fromkeys(range(CONNECTIONS), "http")


def pieces() -> Iterator[Piece]:
    for connection in range(CONNECTIONS):
        asked = answered = 0
        for turn in range(connection % 4 + 1):
            ask = f"GET /{connection}/{turn} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
            answer = f"HTTP/1.1 {200 + turn} OK\r\nContent-Length: 2\r\n\r\nok".encode()
            yield Piece(connection, True, asked, ask, len(ask), turn * 1000)
            yield Piece(connection, False, answered, answer, len(answer), turn * 1000 + 500)
            asked, answered = asked + len(ask), answered + len(answer)


@pytest.fixture(scope="module")
def alone() -> Reading:
    found = read(pieces(), PROTOCOLS)
    assert [len(each) for each in found.exchanges.values()] == [connection % 4 + 1 for connection in range(CONNECTIONS)]
    return found


@pytest.mark.parametrize("processes", [1, 2, 7])
def test_the_answer_is_the_same_for_any_number_of_processes(alone: Reading, processes: int) -> None:
    seen: list[int] = []
    found = read_side_by_side(list(pieces()), PROTOCOLS, processes=processes, progress=seen.append)
    assert found == alone
    assert list(found.exchanges) == list(alone.exchanges), "in the order of connections"
    assert seen == sorted(seen)
    assert seen[-1] == len(list(pieces())), "all were taken"


def test_what_was_said_before_is_read_as_if_it_were_new(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def counted(records: Iterable[bytes], *more: object) -> Iterator[Layer]:
        packets = list(records)
        given.append(len(packets))
        return dissect(packets, *more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("probes.dissect.exchanges.dissect", counted)
    ask, head, done = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"
    connections = [
        [ask, head + b"ok"],
        [ask, head + b"no", ask + ask, head + b"ok" + head + b"ko", ask, done],
        [ask.replace(b"GET", b"HEAD"), head, ask, head + b"ok", ask.replace(b"GET", b"HEAD"), head],
        [ask, done, ask, head],  # its end was not captured
        [ask, done],
    ]
    spoken = [list(conversation(number, said)) for number, said in enumerate(connections)]
    together = read([piece for pieces in spoken for piece in pieces], dict.fromkeys(range(len(spoken)), "http"))
    assert [len(together.exchanges[number]) for number in range(len(spoken))] == [1, 4, 3, 2, 1]
    assert given.pop() == 2 + 1 + 6 + 4 + 0, "what was new, and all of those in which something depends on what went before"
    for number, pieces in enumerate(spoken):
        assert read(pieces, {number: "http"}).exchanges == {number: together.exchanges[number]}


def conversation(connection: int, said: list[bytes]) -> Iterator[Piece]:
    """Its sides speak in turns."""
    places = [0, 0]
    for turn, content in enumerate(said):
        yield Piece(connection, turn % 2 == 0, places[turn % 2], content, len(content), turn)
        places[turn % 2] += len(content)


@pytest.mark.parametrize("what", ["it", "another", "several", "nothing"])
def test_a_tshark_that_was_started_ahead_changes_nothing_and_goes(
    what: str, alone: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    keys = tmp_path / "keys.log"
    keys.touch()
    started = []

    def noted(*words: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(running(*words, **options))
        return started[-1]

    running: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", noted)
    begin_ahead(keys if what == "another" else None)
    if what == "several":
        assert read_side_by_side(list(pieces()), PROTOCOLS, processes=2) == alone
    elif what != "nothing":
        assert read(pieces(), PROTOCOLS) == alone
    end_ahead()
    assert len([each for each in started if "-r" in each.args]) == (2 if what == "another" else 1), "those of other processes are theirs"
    assert all(each.returncode is not None for each in started)
    assert [path.name for path in tmp_path.iterdir()] == ["keys.log"]


def test_a_process_that_is_ended_costs_time_only(alone: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    here, whole = os.getpid(), read

    def ended(share: list[Piece], *more: object, **options: object) -> Reading:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(share, *more, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(side_by_side_, "read", ended)
    assert read_side_by_side(list(pieces()), PROTOCOLS, processes=2) == alone


def test_what_fails_in_a_process_is_said_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "tshark"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("probes.dissect.tshark.find_tshark", lambda: str(broken))
    with pytest.raises(DissectionError, match="no such option"):
        read_side_by_side(list(pieces()), PROTOCOLS, processes=2)


def test_sessions_that_may_resume_one_another_stay_together() -> None:
    protocols = {connection: "tls" if connection % 2 else "http" for connection in range(CONNECTIONS)}
    for together in (True, False):
        shares = side_by_side_._dealt(list(pieces()), protocols, 3, together=together)  # what it deals is not to be seen in results
        of_tls = [any(protocols[piece.connection] == "tls" for piece in share) for share in shares]
        assert of_tls == ([True, False, False] if together else [True, True, True])
        assert sorted((piece.connection, piece.forward, piece.offset) for share in shares for piece in share) == sorted(
            (piece.connection, piece.forward, piece.offset) for piece in pieces()
        )
