"""The samples of a benchmark -> a small SVG: each one where it was taken, so that a drift, a second mode and
outliers show, which a median hides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from xml.sax.saxutils import escape, quoteattr

from nnkit.contract.text import plural
from nnkit.contract.visible import visible
from nnkit.render.durations import TIME_UNITS, format_time

WIDTH, HEIGHT = 640, 180  # of the plot with its axes, without the legend above it
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 18, 34  # margins, in which the axes are
LINE = 18  # height of a line of the legend
COLORS = ("#3b7dd8", "#d9822b")  # told apart by the color-blind too, on white and on black
TICKS = 4  # on the vertical axis, about
DECADES = 5.0  # from how many times the shortest on the ticks are 1, 2, 5, 10, 20, …
FONT = "font: 12px system-ui, sans-serif; fill: currentColor"


@dataclass(frozen=True)
class Series:
    """The samples of one model: the place of each among all, and its nanoseconds."""

    label: str
    order: Sequence[int]
    times: Sequence[float]


def plot_samples(title: str, series: Sequence[Series]) -> str:
    """Return an SVG of the samples of one or two models, over the order in which they were taken."""
    return _Plot(title, series).svg()


class _Plot:
    def __init__(self, title: str, series: Sequence[Series]) -> None:
        self.title, self.series = title, series
        self.top = TOP + LINE * len(series)
        times = [time for each in series for time in each.times]
        low, high = max(min(times), 1.0), max(*times, 1.0)
        margin = max(
            (high / low) ** 0.05, 1.001
        )  # the axis is logarithmic: what is twice as long is as far apart
        self.low, self.high = low / margin, high * margin
        self.last = max(place for each in series for place in each.order)

    def svg(self) -> str:
        height = self.top + HEIGHT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" style="max-width: 100%; height: auto" role="img" '
            f"aria-label={quoteattr(self._description())}>",
            *self._axes(),
        ]
        for number, (each, color) in enumerate(zip(self.series, COLORS, strict=False)):
            parts += self._drawn(number, each, color)
        return "\n".join([*parts, "</svg>"])

    def _description(self) -> str:
        medians = ", ".join(f"{each.label} {format_time(median(each.times))}" for each in self.series)
        return visible(f"Samples of the {self.title}, by the order they were taken in; median: {medians}")

    def _axes(self) -> list[str]:
        right, bottom = WIDTH - RIGHT, self.top + HEIGHT - BOTTOM
        parts = [self._text(0, TOP - 4, f"time of a run, {self.title} (log scale)", "start")]
        for tick in _ticks(self.low, self.high):
            y = self._y(tick)
            parts.append(
                f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity=".15" fill="none"/>'
            )
            parts.append(self._text(LEFT - 8, y + 4, _tick_text(tick), "end"))
        parts.append(self._text(LEFT, bottom + 18, "1", "middle"))
        parts.append(self._text(right, bottom + 18, f"{self.last + 1:,}", "end"))
        parts.append(self._text((LEFT + right) / 2, bottom + 18, "sample, in the order taken", "middle"))
        return parts

    def _drawn(self, number: int, series: Series, color: str) -> list[str]:
        points = list(zip(series.order, series.times, strict=True))
        dots = "".join(f"M{self._x(place):.1f} {self._y(time):.1f}h0" for place, time in points)
        y = self._y(median(series.times))
        parts = [
            f'<path d="{dots}" stroke="{color}" stroke-width="4" stroke-linecap="round" '
            'stroke-opacity=".55" fill="none"/>',
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{color}" stroke-width="1.5" fill="none"/>',
        ]
        legend = (
            f"{series.label}: {plural(len(points), 'sample')}, median {format_time(median(series.times))}"
        )
        baseline = TOP + LINE * (number + 1) - 4
        parts.append(f'<circle cx="{LEFT + 6}" cy="{baseline - 4}" r="4" fill="{color}"/>')
        parts.append(self._text(LEFT + 16, baseline, legend, "start"))
        return parts

    def _x(self, place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / max(self.last, 1)

    def _y(self, time: float) -> float:
        share = math.log(max(time, 1.0) / self.low) / math.log(self.high / self.low)
        return self.top + (HEIGHT - BOTTOM) * (1 - share)

    def _text(self, x: float, y: float, text: str, anchor: str) -> str:
        shown = escape(visible(text))
        return f'<text x="{x:g}" y="{y:.1f}" text-anchor="{anchor}" style="{FONT}">{shown}</text>'


def _tick_text(nanoseconds: float) -> str:
    """Return `50 µs`, `1.2 ms`."""
    unit, length = next(each for each in TIME_UNITS if nanoseconds >= each[1] or each is TIME_UNITS[-1])
    return f"{nanoseconds / length:.4g} {unit}"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between the two; over decades they are 1, 2, 5, 10, …, else about `TICKS`."""
    if high / low > DECADES:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1, 2, 5) if high / low < 100 else (1,)
        return [
            factor * 10.0**power
            for power in powers
            for factor in factors
            if low <= factor * 10.0**power <= high
        ]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
