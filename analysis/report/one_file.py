"""A page in one file: style, scripts, libraries and what they show. Nothing in it is fetched from anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from analysis.report.markup import text

FOLDER = Path(__file__).parent
ASSETS = FOLDER / "assets"
_POLICY = "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_ECHARTS = FOLDER / "vendor" / "echarts" / "echarts.common.min.js"


def page(body: Path, scripts: Iterable[Path], told: object, title: str, parts: Mapping[str, str]) -> str:
    """The page whose `body` is a template for `title` and `parts` (HTML). Its `scripts` find `told`, as JSON, in the element "told".

    The content security policy allows our two scripts, by their hashes, and inline style. Needs a browser with DecompressionStream
    (Chrome 80, Firefox 113, Safari 16.4).
    """
    script, library = _joined(scripts), _read(_ECHARTS)
    return Template(_read(ASSETS / "one_file.html")).substitute(
        title=text(title), body=Template(_read(body)).substitute(parts, title=text(title)), style=_read(ASSETS / "style.css"),
        policy=_POLICY.format(scripts=f"{_script_hash(script)} {_script_hash(library)}"),
        told=_compressed(json.dumps(told, separators=(",", ":"))), echarts=_compressed(library), script=script,
    )  # fmt: skip


def _read(path: Path) -> str:
    return path.read_text("utf-8")


def _joined(scripts: Iterable[Path]) -> str:
    """Our scripts as one: they share a scope and leave nothing outside it."""
    return "(() => {\n'use strict';\n" + "\n".join(map(_read, scripts)) + "\n})();\n"


def _script_hash(script: str) -> str:
    """A script as a Content-Security-Policy source (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _compressed(some: str) -> str:
    """Compressed (gzip) and in base64, the same for the same text: no character of it means anything to HTML.

    At most, which takes six times as long, a page would be 3 % smaller.
    """
    return base64.b64encode(gzip.compress(some.encode(), 6, mtime=0)).decode()
