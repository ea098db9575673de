"""What nginx does to a URI before and after it chooses a location. URIs are bytes here, as nginx and PCRE see them."""

from __future__ import annotations

import functools
import re
from urllib.parse import unquote_to_bytes

# ngx_escape_uri(NGX_ESCAPE_URI), with the characters added in nginx 1.21.1, all beside controls and bytes above 126.
_ESCAPED = re.compile(rb'[^!-~]|[ "#%<>?\\^`{|}]')
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
_VARIABLE = re.compile(rb"\$(?:\{(\w+)\}|(\d|[A-Za-z_]\w*))")
UNREADABLE = (re.error, OverflowError, RecursionError)  # what compiling an expression may raise


def octets(text: str) -> bytes:
    """Text as it was on the wire: UTF-8, with bytes that were none (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate, which only JSON can write
        return text.encode("utf-8", "surrogatepass")


def normalized(path: str) -> bytes | None:
    """The URI that locations are matched against: decoded, `.` and `..` resolved, slashes merged; None where nginx answers 400.

    https://nginx.org/en/docs/http/ngx_http_core_module.html#location and merge_slashes there.
    """
    if not path.startswith("/") or _BAD_ESCAPE.search(path):
        return None
    steps: list[bytes] = []
    last = b""
    for last in unquote_to_bytes(octets(path)).split(b"/"):
        if last == b"..":
            if not steps:
                return None
            steps.pop()
        elif last not in (b"", b"."):
            steps.append(last)
    uri = b"/" + b"/".join(steps)
    return uri + b"/" if last in (b"", b".", b"..") and steps else uri


def escaped(uri: bytes) -> str:
    """A changed URI as nginx sends it to the upstream."""
    return _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], uri).decode("ascii")


@functools.lru_cache(1024)
def pattern(expression: str) -> re.Pattern[bytes] | None:
    """A case-insensitive regular expression as PCRE has it, None where Python's `re` cannot say the same."""
    if "[[:" in expression:  # a POSIX class, which `re` takes for a set of characters
        return None
    try:
        return re.compile(octets(_NAMED_GROUP.sub("(?P<", expression)), re.IGNORECASE)
    except UNREADABLE:
        return None


def rewritten(path: str, target: str, uri: bytes) -> bytes | None:
    """The URI after `rewrite "(?i)PATH" TARGET break`, which ingress-nginx writes for rewrite-target (template.go, buildProxyPass).

    None where the target has variables that only nginx knows. Its arguments, after `?`, are left out.
    """
    expression = pattern(path)
    found = expression.search(uri) if expression is not None else None
    if found is None:
        return None
    groups: dict[bytes, bytes] = {str(place).encode(): text or b"" for place, text in enumerate(found.groups(), 1)}
    groups |= {name.encode(): text or b"" for name, text in found.groupdict().items()}
    bare = octets(target.partition("?")[0])
    for variable in _VARIABLE.finditer(bare):
        name = variable[1] or variable[2]
        if name not in groups and not name.isdigit():
            return None
    return _VARIABLE.sub(lambda variable: groups.get(variable[1] or variable[2], b""), bare)
