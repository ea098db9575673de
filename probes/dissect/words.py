"""A few words of a text that tell it from others, cut the same way wherever they come from: a row of a database, a body that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST_WORD = 32  # characters
MOST_OF_BODY, MOST_OF_RESULT = 24, 8
_TAG = re.compile(r"<[^<>]*>")
_KEY = re.compile(r'"[^"\\]*"\s*:')  # of a JSON object
_WORD = re.compile(r"\w+(?:[.@-]\w+)*")


def _telling(word: str) -> bool:
    """Numbers of 3 digits and more, words of 4 letters and more."""
    letters = sum(map(str.isalnum, word))
    number = all(letter.isdigit() or letter in ".-" for letter in word)
    return len(word) <= LONGEST_WORD and letters >= (3 if number else 4)


def words(texts: Iterable[str], most: int) -> list[str]:
    """At most `most` different words of `texts`: those with digits first, of them and of the others those that come first."""
    found = dict.fromkeys(word for text in texts for word in _WORD.findall(text) if _telling(word))
    return sorted(found, key=lambda word: not any(map(str.isdigit, word)))[:most]


def words_of_body(content: bytes, kind: str) -> list[str]:
    """The words of an HTTP body whose content type is `kind`: none of names in JSON, none of tags in HTML, none where it is no text."""
    if not re.match(r"text/|application/([\w.]+\+)?(json|xml)\b", kind):
        return []
    text = content.decode("utf-8", "replace")
    return words([_TAG.sub(" ", _KEY.sub(" ", text))], MOST_OF_BODY)
