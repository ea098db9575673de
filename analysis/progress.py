"""What long work tells of how far it is, to whoever shows that."""

from __future__ import annotations

from collections.abc import Callable

Reading = Callable[[str, int], None]  # which file, and the position in it
Working = Callable[[str, int, int], None]  # what is done, how much of it, and of how much


def unseen(_what: str, _done: int, _of: int) -> None:
    """Nobody watches."""
