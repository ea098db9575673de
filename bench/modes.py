"""`hopline bench proxy --json` as docs/kube-proxy-modes.md shows it: `python -m bench.modes MODES.json -o docs/kube-proxy-modes.svg`.

Prints the tables, and draws first packets beside what the Kubernetes project published (28 February 2025).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.proxy_bench import words

# "NFTables mode for kube-proxy": iptables-vs-nftables.svg, heights of its bars (0.2 of its axis are 50.67 pixels), in ns by Services.
PUBLISHED = {
    "iptables": {5_000: (49_000, 156_000), 10_000: (61_000, 262_000), 30_000: (274_000, 716_000)},  # p50, p99
    "nftables": {5_000: (14_000, 37_000), 10_000: (14_000, 37_000), 30_000: (14_000, 37_000)},
}
COLOURS = {"iptables-legacy": "#0072b2", "iptables-nft": "#d55e00", "nftables": "#00805c", "ipvs": "#a8497f", "iptables": "#d55e00"}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 64, 20, 190, 46
X_DECADES, Y_DECADES = (0, 4.6), (3, 6)  # 1 to 40,000 Services, 1 µs to 1 ms


def x(services: float) -> float:
    """Where so many Services are, in pixels."""
    return LEFT + (math.log10(services) - X_DECADES[0]) / (X_DECADES[1] - X_DECADES[0]) * (WIDTH - LEFT - RIGHT)


def y(ns: float) -> float:
    """Where a time is, in pixels."""
    return HEIGHT - BOTTOM - (math.log10(ns) - Y_DECADES[0]) / (Y_DECADES[1] - Y_DECADES[0]) * (HEIGHT - TOP - BOTTOM)


def axes() -> Iterator[str]:
    """The grid and its labels."""
    for decade in range(X_DECADES[0], int(X_DECADES[1]) + 1):
        at = x(10**decade)
        yield f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#8886" stroke-width=".5"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**decade:,}</text>'
    for decade, label in zip(range(Y_DECADES[0], Y_DECADES[1] + 1), ("1 µs", "10 µs", "100 µs", "1 ms"), strict=True):
        yield f'<path d="M{LEFT} {y(10**decade):.1f}H{WIDTH - RIGHT}" stroke="#8886" stroke-width=".5"/>'
        yield f'<text x="{LEFT - 8}" y="{y(10**decade) + 4:.1f}" text-anchor="end">{label}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">Services</text>'


def line(points: list[tuple[float, float]], colour: str, style: str, *, dots: bool) -> Iterator[str]:
    """One curve; `style` is an attribute of its stroke."""
    path = "L".join(f"{x(services):.1f} {y(ns):.1f}" for services, ns in points)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" {style}/>'
    if dots:
        yield from (f'<circle cx="{x(services):.1f}" cy="{y(ns):.1f}" r="4" fill="none" stroke="{colour}"/>' for services, ns in points)


def picture(told: dict[str, Any]) -> str:
    """The curves as SVG: ours to a random Service, p50 (solid) and p99 (thin); theirs with circles, p50 and p99 (thin), dashed."""
    parts, legend = list(axes()), []
    for mode in told["asked"]["modes"]:
        cells = sorted(
            (cell for cell in told["cells"] if (cell["mode"], cell["target"]) == (mode, "random")), key=lambda cell: cell["services"]
        )
        for key, style in (("first_p50_ns", 'stroke-width="2.2"'), ("first_p99_ns", 'stroke-width=".8"')):
            parts += line([(cell["services"], cell[key]) for cell in cells], COLOURS[mode], style, dots=False)
        legend.append((COLOURS[mode], f"{mode}, here", ""))
    for mode, known in PUBLISHED.items():
        for which, width in ((0, 2.2), (1, 0.8)):
            points = [(float(services), float(both[which])) for services, both in known.items()]
            parts += line(points, COLOURS[mode], f'stroke-width="{width}" stroke-dasharray="5 4"', dots=True)
        legend.append((COLOURS[mode], f"{mode}, published", ' stroke-dasharray="5 4"'))
    for number, (colour, label, dash) in enumerate(legend):
        at = TOP + 14 + 20 * number
        parts.append(f'<path d="M{WIDTH - RIGHT + 14} {at - 4}h24" stroke="{colour}" stroke-width="2.2"{dash}/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 44}" y="{at}">{label}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{TOP + 26 + 20 * len(legend)}">thick: p50, thin: p99</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>", ""])


def tables(told: dict[str, Any]) -> Iterator[str]:
    """Markdown: first packets, later ones, loading of rules, and what they say."""
    modes, sizes = told["asked"]["modes"], told["asked"]["services"]
    cells = {(cell["mode"], cell["services"], cell["target"]): cell for cell in told["cells"]}
    yield f"{words.about(told)}.\n"
    yield f"| First packet, p50 / p95 / p99, µs | {' | '.join(f'{mode}, random | last' for mode in modes)} |"
    yield "| --- " * (1 + 2 * len(modes)) + "|"
    for size in sizes:
        row = [cells[mode, size, target] for mode in modes for target in ("random", "last")]
        yield f"| {size:,} | {' | '.join(' / '.join(_us(cell[f'first_{p}_ns']) for p in ('p50', 'p95', 'p99')) for cell in row)} |"
    yield f"\n| Later packets, p50, µs; largest spread of rounds | {' | '.join(modes)} |"
    yield "| --- " * (1 + len(modes)) + "|"
    for size in sizes:
        both = [[cells[mode, size, target] for target in ("random", "last")] for mode in modes]
        row_of = [f"{_us(pair[0]['established_p50_ns'])}; {max(cell['spread'] or 0 for cell in pair):.1%}" for pair in both]
        yield f"| {size:,} | {' | '.join(row_of)} |"
    yield f"\n| {' | '.join(words.PROGRAMMING_HEADS)} |"
    yield "| --- " * len(words.PROGRAMMING_HEADS) + "|"
    yield from (f"| {' | '.join(row)} |" for row in words.programming_rows(told))
    yield ""
    yield from (f"- {each}" for each in words.summary(told))


def _us(ns: float | None) -> str:
    return words.NOTHING if ns is None else f"{ns / 1000:.2f}" if ns < 9_950 else f"{ns / 1000:.1f}" if ns < 99_500 else f"{ns / 1000:.0f}"


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path, help="what --json printed")
    parser.add_argument("-o", "--output", type=Path, help="where to draw")
    asked = parser.parse_args()
    told = json.loads(asked.document.read_text())
    sys.stdout.write("\n".join([*tables(told), ""]))
    if asked.output:
        asked.output.write_text(picture(told))


if __name__ == "__main__":
    main()
