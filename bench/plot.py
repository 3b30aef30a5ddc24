"""A small writer of SVG charts: panels of points and lines over a shared order, no library.

Colours follow the reader's light or dark mode, as a picture in a README must.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.faint { fill: #646b73 } .title { font-weight: 600; font-size: 15px }
.grid { stroke: #d9d6d0; stroke-width: 1 } .page { fill: #fbfaf8 }
.a { fill: #2f6fb5; stroke: #2f6fb5 } .b { fill: #c2541b; stroke: #c2541b }
.c { fill: #6c7424; stroke: #6c7424 }
polyline { fill: none !important; stroke-width: 2 } circle { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e8e6e3 } .faint { fill: #9aa1a9 } .grid { stroke: #363b42 } .page { fill: #15171a }
  .a { fill: #7ab0ea; stroke: #7ab0ea } .b { fill: #f0925a; stroke: #f0925a }
  .c { fill: #c3cc6a; stroke: #c3cc6a }
}"""
LEFT, RIGHT, TOP, HEIGHT, GAP = 74, 190, 46, 210, 74


@dataclass(frozen=True)
class Series:
    """Values over the places 0, 1, 2 … of the panel's order.

    :param style: `a`, `b` or `c`
    :param points: (place, value), values over 0
    """

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    is_line: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart, with a logarithmic scale.

    :param places: how many places the order has
    """

    title: str
    unit: str
    below: str
    places: int
    series: Sequence[Series]


def draw(panels: Sequence[Panel], title: str, description: str, width: int = 860) -> str:
    """The picture, panels below one another."""
    height = len(panels) * (TOP + HEIGHT + GAP) - 14
    body = [line for n, panel in enumerate(panels) for line in _panel(panel, n * (TOP + HEIGHT + GAP), width)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            f"<style>{STYLE}\n</style>",
            f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
            *body,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, top: float, width: int) -> Iterable[str]:
    values = [value for series in panel.series for _, value in series.points]
    low, high = math.floor(math.log10(min(values))), math.log10(max(values) * 1.15)
    y_top, y_bottom = top + TOP, top + TOP + HEIGHT
    right = width - RIGHT

    def y(value: float) -> float:
        return y_bottom - (math.log10(value) - low) / (high - low) * HEIGHT

    def x(place: float) -> float:
        return LEFT + (place + 0.5) / panel.places * (right - LEFT)

    yield f'<text class="title" x="{LEFT}" y="{y_top - 20:.0f}">{escape(panel.title)}</text>'
    for power in range(low, math.floor(high) + 1):
        value = 10.0**power
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        text = f"{value:g} {panel.unit}"
        yield f'<text class="faint" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>'
    yield f'<text class="faint" x="{LEFT}" y="{y_bottom + 24:.0f}">{escape(panel.below)}</text>'
    labels = [(y(series.points[-1][1]), series) for series in panel.series]
    for series in panel.series:
        yield from _marks(series, x, y)
    at = -math.inf
    for wanted, series in sorted(labels, key=lambda label: label[0]):
        at = max(wanted + 4, at + 17)
        name = escape(series.name)
        yield f'<text class="{series.style}" style="stroke:none" x="{right + 10}" y="{at:.1f}">{name}</text>'


def _marks(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> Iterable[str]:
    places = [f"{x(place):.1f},{y(value):.1f}" for place, value in series.points]
    if series.is_line:
        yield f'<polyline class="{series.style}" points="{" ".join(places)}"/>'
    else:
        radius = 2.6 if len(places) > 40 else 3.6
        for place in places:
            cx, cy = place.split(",")
            yield f'<circle class="{series.style}" cx="{cx}" cy="{cy}" r="{radius}"/>'
