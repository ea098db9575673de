"""Recordings that several tests look at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from .lab import Conversation, conversations
from .recordings import RECORDINGS


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Conversation]]:
    """The conversations of one of RECORDINGS, recorded when first asked for."""

    @cache
    def take(name: str) -> list[Conversation]:
        folder: Path = tmp_path_factory.mktemp(name)
        return conversations(RECORDINGS[name](folder))

    return take
