"""The answers to one question: as they were found before, or found now and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from analysis.cache.question import Question
from analysis.cache.store import Store

if TYPE_CHECKING:
    from tracer.requests import RequestTrace

_Answer = TypeVar("_Answer")


class Answers:
    """The requests that `find` finds, and what is made of them. Without a `store` nothing is kept.

    An answer is kept only if tshark did its part, and if nothing that it follows from changed while it was sought.
    """

    def __init__(self, question: Question, store: Store | None, find: Callable[[], RequestTrace]) -> None:
        self._question, self._store, self._find = question, store, find
        self._key = None if store is None else question.key(store.folder)
        self._requests: RequestTrace | None = None

    def requests(self) -> RequestTrace:
        """The requests."""
        if self._requests is None:
            self._requests = cast("RequestTrace | None", self._load("requests"))
        if self._requests is None:
            self._requests = self._find()
            self._keep("requests", self._requests)
        return self._requests

    def made(self, what: str, make: Callable[[RequestTrace], _Answer]) -> _Answer:
        """What `make` makes of the requests. `what` names it, with all that it follows from beside them."""
        known = self._load(what)
        if known is not None:
            return cast("_Answer", known)
        answer = make(self.requests())
        self._keep(what, answer)
        return answer

    def _load(self, what: str) -> object | None:
        return None if self._store is None or self._key is None else self._store.load(_place(self._key, what))

    def _keep(self, what: str, answer: object) -> None:
        store, sound = self._store, self.requests().dissection.problem is None
        if store is not None and self._key is not None and sound and self._question.key(store.folder) == self._key:
            store.keep(_place(self._key, what), answer)


def _place(key: str, what: str) -> str:
    return hashlib.sha256(f"{key} {what}".encode()).hexdigest()
