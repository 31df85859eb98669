"""Charts as inline SVG, light enough to be sent every second; colours come from the style sheet.

Every chart is drawn twice, wide and narrow, and the style sheet shows the one that fits the window, so that its text
keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

MOST_POINTS = 240  # of a line; more would not be told apart
COLOURS = 8  # classes c0 to c7 of the style sheet
#: Shape of a chart to the class that the style sheet shows in wide or narrow windows, to width and height in pixels.
SHAPES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "whole": {"wide": (1000, 300), "narrow": (328, 220)},
    "low": {"wide": (1000, 170), "narrow": (328, 150)},
    "half": {"wide": (490, 260), "narrow": (328, 220)},  # of the width of the page
}
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 36


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        title: Its name in the legend; "" for none.
        x: Positions.
        y: Values, of the same number; points that are not finite are left out.
        colour: The class of the style sheet that colours it.
        dots: Whether its points are marked.
        thin: Whether the line is thin and dotted.
        joined: Whether its points are joined.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dots: bool = False
    thin: bool = False
    joined: bool = True

    def points(self) -> list[tuple[float, float]]:
        """The finite points, thinned out if there are too many; the last one is always among them."""
        found = [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        every = math.ceil(len(found) / MOST_POINTS)
        return found if every <= 1 else [*found[:-1:every], found[-1]]


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line."""

    title: str
    y: float


def chart(
    lines: Sequence[Line],
    x_title: str,
    label: str,
    levels: Sequence[Level] = (),
    *,
    shape: str = "whole",
    from_zero: bool = False,
) -> str:
    """Return a chart as HTML, or "" if it has no point.

    Args:
        lines: Its lines.
        x_title: The name of the horizontal axis.
        label: What it shows, in words.
        levels: Its dashed levels.
        shape: One of `SHAPES`.
        from_zero: Whether the vertical axis begins at 0.
    """
    drawn = [(line, points) for line in lines if (points := line.points())]
    if not drawn:
        return ""
    titled = [(line.title, f"{line.colour}{' thin' if line.thin else ''}") for line, _ in drawn if line.title]
    titled += [(level.title, "level") for level in levels if level.title]
    legend = "".join(
        f'<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true"><path class="{colour}" d="M1 4H21"/></svg>'
        f"{escape(title)}</li>"
        for title, colour in titled
    )
    shown = "".join(_svg(drawn, levels, *each, x_title, label, from_zero) for each in SHAPES[shape].items())
    return f'<figure class="plot">{f"<ul class=legend>{legend}</ul>" if legend else ""}{shown}</figure>'


def _svg(
    drawn: Sequence[tuple[Line, Sequence[tuple[float, float]]]],
    levels: Sequence[Level],
    name: str,
    size: tuple[int, int],
    x_title: str,
    label: str,
    from_zero: bool,
) -> str:
    width, height = size
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points] + [level.y for level in levels if math.isfinite(level.y)]
    across = _Axis(min(xs), max(xs), LEFT, width - RIGHT, whole=True, most=max(4, width // 80))
    up = _Axis(min(*ys, 0.0) if from_zero else min(ys), max(ys), height - BOTTOM, TOP, most=5 if height > 200 else 3)
    parts = []
    for value, text in up.ticks():
        at = up.at(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{width - RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 7}" y="{at + 4:.1f}">{text}</text>')
    for value, text in across.ticks():
        parts.append(f'<text class="x" x="{across.at(value):.1f}" y="{height - BOTTOM + 16}">{text}</text>')
    parts.append(f'<text class="x" x="{(LEFT + width - RIGHT) / 2:.0f}" y="{height - 4}">{escape(x_title)}</text>')
    finite = [level.y for level in levels if math.isfinite(level.y)]
    parts += [f'<path class="level" d="M{LEFT} {up.at(y):.1f}H{width - RIGHT}"/>' for y in finite]
    for line, points in drawn:
        placed = [(across.at(x), up.at(y)) for x, y in points]
        if line.joined and len(placed) > 1:
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
            parts.append(f'<path class="{line.colour}{" thin" if line.thin else ""}" d="{path}"/>')
        if line.dots or not line.joined or len(placed) == 1:
            parts += [
                f'<circle class="{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(line.title)} '
                f"{value[1]:.4g} at {value[0]:g}</title></circle>"
                for (x, y), value in zip(placed, points, strict=True)
            ]
    return (
        f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


class _Axis:
    """An axis from a lowest to a highest value, and where these lie in the drawing."""

    def __init__(self, low: float, high: float, begin: float, end: float, *, most: int, whole: bool = False) -> None:
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):  # one value has room on both sides
            reach = 0.5 if whole else 0.05 * abs(low) or 0.5
            low, high = low - reach, high + reach
        elif not whole:
            margin = 0.06 * (high - low)
            low, high = low - margin * (low != 0), high + margin
        self._low, self._high, self._begin, self._end = low, high, begin, end
        self._most, self._whole = most, whole

    def at(self, value: float) -> float:
        """Return where a value lies."""
        return self._begin + (value - self._low) / (self._high - self._low) * (self._end - self._begin)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values on the axis, and how they are written."""
        rough = (self._high - self._low) / self._most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)
        if self._whole:
            step = max(1.0, step)
        first, last = math.ceil(self._low / step - 1e-9), math.floor(self._high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        large = max(abs(self._low), abs(self._high)) >= 1e5 or decimals > 4
        return [(n * step, f"{n * step:.3g}" if large else f"{n * step:.{decimals}f}") for n in range(first, last + 1)]
