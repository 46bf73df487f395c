"""The two pictures of docs/performance.md as SVG, made of strings: bars of cost and lines of latency over load.

Readable on a light and on a dark page: each brings its own ground, and its colors follow the reader's color scheme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 64, 52
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
SERIES = 4
"""How many colors the style below has."""

_STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
.ground { fill: #ffffff; } text { fill: #1f2328; } .quiet { fill: #59636e; } .title { font-size: 15px; font-weight: 600; }
.grid { stroke: #d8dee4; } .axis { stroke: #8c959f; } .goal { stroke: #1f2328; stroke-dasharray: 5 4; }
.f0 { fill: #0a6cbd; } .f1 { fill: #c2570c; } .f2 { fill: #3d7f4f; } .f3 { fill: #7d4fb8; } .on { fill: #ffffff; }
.s0 { stroke: #0a6cbd; } .s1 { stroke: #c2570c; } .s2 { stroke: #3d7f4f; } .s3 { stroke: #7d4fb8; }
.sum { stroke: #ffffff; stroke-width: 4; paint-order: stroke; font-weight: 600; }
.line { fill: none; stroke-width: 2.5; } .rare { stroke-dasharray: 7 4; }
@media (prefers-color-scheme: dark) {
  .sum { stroke: #0d1117; }
  .ground { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; }
  .grid { stroke: #2a3038; } .axis { stroke: #6e7681; } .goal { stroke: #e6edf3; }
  .f0 { fill: #58a6ff; } .f1 { fill: #f0883e; } .f2 { fill: #56b870; } .f3 { fill: #bc8cff; } .on { fill: #0d1117; }
  .s0 { stroke: #58a6ff; } .s1 { stroke: #f0883e; } .s2 { stroke: #56b870; } .s3 { stroke: #bc8cff; }
}"""


@dataclass(frozen=True)
class Line:
    """`values` as there are labels, None where nothing was measured. `rare`: dashed, of the same color as its sibling."""

    name: str
    values: Sequence[float | None]
    color: int
    rare: bool = False


def stacked_bars(
    title: str, unit: str, labels: Sequence[str], parts: Mapping[str, Sequence[float | None]], goal: float, axis: str
) -> str:
    """A bar for each label, of all parts; a part's values are as many as there are labels."""
    columns: list[tuple[float | None, ...]] = list(zip(*parts.values(), strict=True))
    totals = [None if None in column else sum(value or 0.0 for value in column) for column in columns]
    step = _step(max([goal, *(total for total in totals if total is not None)]) * 1.08)
    top = step * math.ceil(max([goal, *(total for total in totals if total is not None)]) * 1.08 / step)
    place = INNER_WIDTH / len(labels)
    width = min(place * 0.62, 64)

    def y(value: float) -> float:
        return TOP + INNER_HEIGHT * (1 - value / top)

    drawn = [_grid(y(step * number), _plain(step * number)) for number in range(round(top / step) + 1)]
    drawn.append(_goal(y(goal), f"goal {_plain(goal)} {unit}"))
    for number, (label, total) in enumerate(zip(labels, totals, strict=True)):
        middle, floor = LEFT + place * (number + 0.5), 0.0
        drawn.append(_text(middle, TOP + INNER_HEIGHT + 19, label, "middle"))
        if total is None:
            drawn.append(_text(middle, y(0) - 8, "not kept up", "middle", "quiet"))
            continue
        for color, values in enumerate(parts.values()):
            value = values[number] or 0.0
            high, low = y(floor + value), y(floor)
            drawn.append(
                f'<rect x="{middle - width / 2:.1f}" y="{high:.1f}" width="{width:.1f}" height="{low - high:.1f}"'
                f' class="f{color}"/>'
            )
            if low - high >= 17:
                drawn.append(_text(middle, (low + high) / 2 + 4.5, f"{value:.1f}", "middle", "on"))
            floor += value
        drawn.append(_text(middle, y(floor) - 6, f"{floor:.1f}", "middle", "sum"))
    # Where the goal's own label is not.
    highest = TOP + (12 if goal < top / 2 else INNER_HEIGHT - 22 * (len(parts) - 1))
    drawn += [_key(highest + 22 * (len(parts) - 1 - number), name, number) for number, name in enumerate(parts)]
    described = "; ".join(
        f"{label}: {'not kept up' if total is None else f'{total:.1f} {unit}'}"
        for label, total in zip(labels, totals, strict=True)
    )
    return _page(title, f"{title}. {described}", axis, unit, drawn)


def lines(title: str, unit: str, labels: Sequence[str], drawn_lines: Sequence[Line], axis: str) -> str:
    """Over a logarithmic scale: each grid line is about twice or two and a half times the one below."""
    measured = [value for line in drawn_lines for value in line.values if value is not None]
    bottom, top = _ladder_below(min(measured, default=1)), _ladder_above(max(measured, default=10))
    place = INNER_WIDTH / len(labels)

    def x(number: int) -> float:
        return LEFT + place * (number + 0.5)

    def y(value: float) -> float:
        return TOP + INNER_HEIGHT * (1 - (math.log(value) - math.log(bottom)) / (math.log(top) - math.log(bottom)))

    drawn = [_grid(y(step), _plain(step)) for step in _ladder(bottom, top)]
    drawn += [_text(x(number), TOP + INNER_HEIGHT + 19, label, "middle") for number, label in enumerate(labels)]
    ends = []
    for line in drawn_lines:
        points = [(x(number), y(value)) for number, value in enumerate(line.values) if value is not None]
        if not points:
            continue
        path = " ".join(f"{at:.1f},{height:.1f}" for at, height in points)
        drawn.append(f'<polyline points="{path}" class="line s{line.color}{" rare" if line.rare else ""}"/>')
        drawn += [f'<circle cx="{at:.1f}" cy="{height:.1f}" r="3.5" class="f{line.color}"/>' for at, height in points]
        ends.append((points[-1][1], points[-1][0], line))
    for height, (_, at, line) in zip(
        _apart([end[0] for end in ends]), sorted(ends, key=lambda end: end[0]), strict=True
    ):
        drawn.append(_text(max(at + 10, LEFT + INNER_WIDTH - 34), height + 4.5, line.name, "start", f"f{line.color}"))
    described = "; ".join(
        f"{line.name}: "
        + ", ".join(
            f"{label} {'not kept up' if value is None else f'{value:.0f} {unit}'}"
            for label, value in zip(labels, line.values, strict=True)
        )
        for line in drawn_lines
    )
    return _page(title, f"{title}. {described}", axis, unit, drawn)


def _page(title: str, description: str, axis: str, unit: str, drawn: Sequence[str]) -> str:
    base = TOP + INNER_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title about">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="about">{escape(description)}</desc>',
        f"<style>{_STYLE}\n</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" class="ground"/>',
        _text(LEFT - 44, 30, title, "start", "title"),
        _text(LEFT - 12, TOP - 14, unit, "end", "quiet"),
        *drawn,
        f'<line x1="{LEFT}" y1="{base}" x2="{LEFT + INNER_WIDTH}" y2="{base}" class="axis"/>',
        _text(LEFT + INNER_WIDTH / 2, HEIGHT - 12, axis, "middle", "quiet"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, words: str, anchor: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def _grid(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + INNER_WIDTH}" y2="{y:.1f}" class="grid"/>'
    return line + _text(LEFT - 12, y + 4.5, label, "end", "quiet")


def _goal(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + INNER_WIDTH}" y2="{y:.1f}" class="goal"/>'
    return line + _text(LEFT + INNER_WIDTH + 10, y + 4.5, label, "start")


def _key(y: float, name: str, color: int) -> str:
    x = LEFT + INNER_WIDTH + 10
    return f'<rect x="{x}" y="{y - 11:.1f}" width="13" height="13" rx="2" class="f{color}"/>' + _text(
        x + 20, y, name, "start"
    )


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _step(top: float) -> float:
    """Between four and eleven of them make up `top`."""
    size = 10.0 ** math.floor(math.log10(top))
    return size / 5 if top < 2 * size else size / 2 if top < 5 * size else size


def _ladder_of(exponent: int) -> list[float]:
    return [factor * 10.0**exponent for factor in (1, 2, 5)]


def _ladder_below(value: float) -> float:
    exponent = math.floor(math.log10(value))
    return max(step for step in _ladder_of(exponent) if step <= value * 1.0001)


def _ladder_above(value: float) -> float:
    exponent = math.floor(math.log10(value))
    return min(step for step in (*_ladder_of(exponent), *_ladder_of(exponent + 1)) if step >= value * 1.02)


def _ladder(bottom: float, top: float) -> list[float]:
    exponents = range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)) + 1)
    return [step for exponent in exponents for step in _ladder_of(exponent) if bottom * 0.999 <= step <= top * 1.001]


def _apart(heights: Sequence[float], least: float = 17.0) -> list[float]:
    """Sorted, and moved so that labels do not lie upon each other."""
    placed: list[float] = []
    for height in sorted(heights):
        placed.append(max(height, placed[-1] + least) if placed else height)
    overhang = max(0.0, placed[-1] - (TOP + INNER_HEIGHT)) if placed else 0.0
    return [height - overhang for height in placed]
