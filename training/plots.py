"""Plots as inline SVG for reports that need no script and no network. Knows numbers and labels; knows no tickets and no models.

Every function returns one `<svg>` as `Markup` (every label in it is escaped), for a page that carries `STYLE` in its style sheet. A plot
has a title and a description for screen readers, a tooltip on each mark, follows light and dark, and never tells things apart by
color alone: series have dashes and names at their ends, tones have a sign.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup, escape

Tone = Literal["plain", "good", "improve", "stop"]
WIDTH = 720  # units of the view box; the page decides how wide it is shown
LABEL_CHARS = 34
CHAR_WIDTH = 6.4  # of the 12-unit label font, on average
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 4", "12 4", "6 2 1 2")
SIGNS = {"plain": "", "good": "✓ ", "improve": "! ", "stop": "✕ "}

STYLE = Markup("""
.plot { --plot-ink: #22261f; --plot-soft: #6b7066; --plot-line: #d9d6cc; --plot-heat: #2f5d50; --plot-on: #ffffff;
  --plot-plain: #47708f; --plot-good: #2c6e49; --plot-improve: #b07000; --plot-stop: #a12a2a;
  --plot-0: #2a6fa8; --plot-1: #b85c00; --plot-2: #1d8a6b; --plot-3: #8c4a94; --plot-4: #8a6d00; --plot-5: #a83246;
  --plot-6: #4d5a66; --plot-7: #2b8ca3; display: block; width: 100%; height: auto; max-width: 60rem; overflow: visible;
  font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
@media (prefers-color-scheme: dark) { .plot { --plot-ink: #e6e7e2; --plot-soft: #a2a89f; --plot-line: #3b4347; --plot-heat: #7fbfa8;
  --plot-on: #10201a; --plot-plain: #86b3d6; --plot-good: #86cba2; --plot-improve: #e6bd6a; --plot-stop: #ef9a94; --plot-0: #7ab8ec;
  --plot-1: #f0a15c; --plot-2: #6fd0b0; --plot-3: #d09ad8; --plot-4: #dcc35a; --plot-5: #f08ca0; --plot-6: #b4c0cc; --plot-7: #77cfe2; } }
.plot text { fill: var(--plot-ink); stroke: none; } .plot .soft { fill: var(--plot-soft); } .plot .head { font-weight: 600; }
.plot .end { text-anchor: end; } .plot .mid { text-anchor: middle; } .plot .on { fill: var(--plot-on); }
.plot .grid { stroke: var(--plot-line); stroke-width: 1; }
.plot .mark { stroke: var(--plot-ink); stroke-width: 1.3; stroke-dasharray: 5 4; }
.plot .whisker { stroke: var(--plot-ink); stroke-width: 1.3; fill: none; } .plot .heat { fill: var(--plot-heat); }
.plot .cell { fill: none; stroke: var(--plot-line); stroke-width: .5; }
.plot .plain { fill: var(--plot-plain); } .plot .good { fill: var(--plot-good); } .plot .improve { fill: var(--plot-improve); }
.plot .stop { fill: var(--plot-stop); } .plot .line { fill: none; stroke-width: 2; stroke-linejoin: round; } .plot .band { opacity: .16; }
""") + Markup("").join(
    Markup(".plot .s{0} {{ stroke: var(--plot-{0}); }} .plot .f{0} {{ fill: var(--plot-{0}); }}\n").format(number)
    for number in range(len(DASHES))
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar. `low` and `high` draw a whisker, such as a confidence interval."""

    label: str
    value: float
    tone: Tone = "plain"
    low: float | None = None
    high: float | None = None
    note: str = ""  # added to the tooltip


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line through points in order of x; `band` has (low, high) for every point."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A dashed line at a value, with its name: a threshold, a target."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Predictions of about the same confidence: how sure they were (mean), how often right, how many."""

    confidence: float  # 0..1
    accuracy: float  # 0..1
    count: int
    low: float | None = None  # interval of the accuracy
    high: float | None = None


def bar_chart(
    bars: Sequence[Bar], *, title: str, description: str = "", percent: bool = False, references: Sequence[Reference] = ()
) -> Markup:
    """Horizontal bars, labels at the left, values at the right; `percent` shows 0.25 as 25 %. Negative values grow to the left."""
    left = _room([bar.label for bar in bars], least=60)
    row, top = 22, 34
    ends = [end for bar in bars for end in (bar.value, bar.high, bar.low) if end is not None] + [r.at for r in references]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    bottom = top + row * max(len(bars), 1)
    x = _Scale(low, high if high > low else low + 1.0, left, WIDTH - 74)
    parts = [_x_grid(x, top, bottom, percent=percent), _x_references(references, x, top, bottom)]
    parts += [_bar(bar, x, top + index * row, row, left, percent=percent) for index, bar in enumerate(bars)]
    said = description or "; ".join(f"{bar.label}: {_number(bar.value, percent=percent)}" for bar in bars[:12])
    return _svg(title, said, bottom + 26, parts if bars else [_nothing(top)])


def histogram(
    values: Sequence[float],
    *,
    title: str,
    x_label: str,
    bins: int = 30,
    description: str = "",
    references: Sequence[Reference] = (),
) -> Markup:
    """How many values lie in each of `bins` ranges of equal width. Values that are not finite are left out."""
    kept = [float(value) for value in values if math.isfinite(value)]
    if not kept:
        return _svg(title, description or "No values.", 80, [_nothing(34)])
    low, high = min(kept), max(kept)
    high = high if high > low else low + 1.0
    counts = [0] * bins
    for value in kept:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    edges = [low + (high - low) * index / bins for index in range(bins + 1)]
    return columns(
        edges, counts, title=title, x_label=x_label, y_label="count", references=references,
        description=description or f"{len(kept)} values from {_number(low)} to {_number(high)}.",
    )  # fmt: skip


def columns(
    edges: Sequence[float], counts: Sequence[float], *, title: str, x_label: str, y_label: str, description: str = "",
    references: Sequence[Reference] = (),
) -> Markup:  # fmt: skip
    """A histogram whose bins are made already: `len(edges) == len(counts) + 1`."""
    left, top, bottom = 58, 40, 240
    x = _Scale(edges[0], edges[-1], left, WIDTH - 16)
    y = _Scale(0.0, max(max(counts, default=0), 1), bottom, top)
    parts = [_y_grid(y, left, WIDTH - 16), _x_ticks(x, bottom), _x_references(references, x, top, bottom)]
    for (start, end), count in zip(pairwise(edges), counts, strict=True):
        tip = f"{_number(start)} to {_number(end)}: {_number(count)}"
        parts.append(_box(x(start) + 0.5, y(count), max(x(end) - x(start) - 1, 0.5), bottom - y(count), "plain", tip))
    parts += [_axes(x_label, y_label, left, bottom)]
    return _svg(title, description, bottom + 46, parts)


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, percent: bool = False, description: str = "",
    references: Sequence[Reference] = (), x_names: Sequence[str] = (), y_from_zero: bool = True,
) -> Markup:  # fmt: skip
    """Lines over a common x. `x_names` gives names (months) to x = 0, 1, 2, ...; `references` are horizontal."""
    points = [point for each in series for point in each.points]
    if not points:
        return _svg(title, description or "No points.", 80, [_nothing(34)])
    right = WIDTH - (_room([each.name for each in series], least=20) if len(series) > 1 else 40)
    left, top, bottom = 58, 40, 260
    heights = [y for _, y in points] + [edge for each in series for pair in each.band for edge in pair] + [r.at for r in references]
    floor = min([*([0.0] if y_from_zero else []), *heights])
    x = _Scale(min(p[0] for p in points), max(p[0] for p in points), left, right)
    y = _Scale(floor, max([*heights, floor + 1e-9]), bottom, top)
    parts = [_y_grid(y, left, right, percent=percent), _named_ticks(x, bottom, x_names) if x_names else _x_ticks(x, bottom)]
    parts += [_y_reference(each, y, left, right) for each in references]
    parts += [_line(each, index, x, y, x_names, percent=percent) for index, each in enumerate(series)]
    if len(series) > 1:
        parts.append(_names(series, y, right))
    parts.append(_axes(x_label, y_label, left, bottom))
    return _svg(title, description or _ends_of(series, percent=percent), bottom + 46, parts)


def heat_map(
    values: Sequence[Sequence[float]], *, rows: Sequence[str], columns: Sequence[str], title: str, row_label: str = "",
    column_label: str = "", percent: bool = False, numbers: bool | None = None, description: str = "",
) -> Markup:  # fmt: skip
    """A cell per row and column, the darker the larger; `values[row][column] >= 0`. Numbers are written in where there is room."""
    left = _room(rows, least=40) + (18 if row_label else 0)
    above = 40 + (18 if column_label else 0) + min(max((len(name) for name in columns), default=0), 22) * 4.6
    width = (WIDTH - left - 16) / max(len(columns), 1)
    row = min(max(width, 16.0), 24.0)
    largest = max((value for line in values for value in line), default=0.0) or 1.0
    written = (width >= 30) if numbers is None else numbers
    parts: list[Markup] = [_text(left - 6, above - 6, row_label, "soft end"), _text(left, 36, column_label, "soft")]
    every = math.ceil(12 / width)  # a name needs 12 units
    for index, name in enumerate(columns):
        at = left + (index + 0.5) * width
        turn = f"rotate({-40 if width > 22 else -65} {at:.1f} {above - 6:.1f})"
        if index % every == 0:
            parts.append(_tag("text", escape(_short(name, 22)), x=at, y=above - 6, transform=turn))
    for number, (name, line) in enumerate(zip(rows, values, strict=True)):
        top = above + number * row
        parts.append(_text(left - 6, top + row * 0.7, _short(name), "end"))
        for index, value in enumerate(line):
            tip = f"{name}, {columns[index]}: {_number(value, percent=percent)}"
            parts.append(_cell(left + index * width, top, width, row, value / largest, tip))
            if written and value:
                tone = "mid on" if value / largest > 0.55 else "mid"
                parts.append(_text(left + (index + 0.5) * width, top + row * 0.7, _number(value, percent=percent), tone))
    said = description or f"Largest value {_number(largest, percent=percent)}; darker is more."
    return _svg(title, said, above + row * max(len(rows), 1) + 12, parts)


def reliability_diagram(bins: Sequence[ReliabilityBin], *, title: str, description: str = "") -> Markup:
    """Accuracy over confidence; on the diagonal a confidence means what it says. Below it: how many predictions each bin has."""
    left, top, side = 58, 40, 300
    x, y = _Scale(0.0, 1.0, left, left + side + 120, exact=True), _Scale(0.0, 1.0, top + side, top, exact=True)
    below = _Scale(0.0, max((each.count for each in bins), default=1), top + side + 110, top + side + 50)
    parts = [_y_grid(y, left, x.end, percent=True), _x_ticks(x, top + side, percent=True)]
    parts.append(_tag("line", class_="mark", x1=x(0), y1=y(0), x2=x(1), y2=y(1)))
    filled = [each for each in bins if each.count]
    for each in filled:
        tip = f"said {each.confidence:.1%}, right {each.accuracy:.1%}, {each.count} predictions"
        if each.low is not None and each.high is not None:
            parts.append(
                _tag("line", class_="whisker", x1=x(each.confidence), x2=x(each.confidence), y1=y(each.low), y2=y(each.high))
            )
        parts.append(_tag("circle", _tag("title", escape(tip)), class_="f0", cx=x(each.confidence), cy=y(each.accuracy), r=5))
        parts.append(_box(x(each.confidence) - 7, below(each.count), 14, below.start - below(each.count), "plain", tip))
    path = " ".join(f"{x(each.confidence):.1f},{y(each.accuracy):.1f}" for each in filled)
    parts.append(_tag("polyline", class_="line s0", points=path))
    parts += [_axes("confidence", "accuracy", left, top + side), _text(x.end + 8, below.start, "count", "soft")]
    said = description or "; ".join(f"said {b.confidence:.0%}: right {b.accuracy:.0%} of {b.count}" for b in filled)
    return _svg(title, said, below.start + 12, parts)


# --- the parts of a plot --------------------------------------------------------------------------------------------


class _Scale:
    """From values to units of the view box, widened to round ticks unless `exact`."""

    def __init__(self, low: float, high: float, start: float, end: float, *, exact: bool = False) -> None:
        high = high if high > low else low + 1.0
        self.step = _step(high - low)
        vertical = start > end
        self.low = low if exact or not vertical else math.floor(low / self.step) * self.step
        self.high = high if exact or not vertical else math.ceil(high / self.step - 1e-9) * self.step
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        yield from (number * self.step for number in range(first, last + 1))


def _step(span: float) -> float:
    """About five steps of 1, 2 or 5 times a power of ten."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if rough <= factor * power * (1 + 1e-9))


def _svg(title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    inside = Markup("").join([_tag("title", escape(title)), _tag("desc", escape(description)), _text(0, 16, title, "head"), *parts])
    return _tag("svg", inside, class_="plot", viewBox=f"0 0 {WIDTH} {height:.0f}", role="img", xmlns="http://www.w3.org/2000/svg")


def _tag(name: str, inside: Markup = Markup(""), **attributes: str | float) -> Markup:
    """An element; numbers to a tenth, attribute values escaped, `class_` and `text_anchor` in their SVG spelling."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), f"{value:.1f}" if isinstance(value, float) else value)
        for key, value in attributes.items()
        if value != ""
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)


def _text(x: float, y: float, words: str, kind: str = "") -> Markup:
    return _tag("text", escape(words), x=float(x), y=float(y), class_=kind) if words else Markup("")


def _box(x: float, y: float, width: float, height: float, kind: str, tip: str) -> Markup:
    inside = _tag("title", escape(tip))
    return _tag("rect", inside, x=float(x), y=float(y), width=max(float(width), 0.0), height=max(float(height), 0.0), class_=kind)


def _cell(x: float, y: float, width: float, height: float, share: float, tip: str) -> Markup:
    opacity = f"{0.06 + 0.94 * share:.2f}" if share > 0 else "0"
    inside = _tag("title", escape(tip))
    filled = _tag("rect", inside, x=x, y=y, width=width, height=height, class_="heat", fill_opacity=opacity)
    return filled + _tag("rect", x=x, y=y, width=width, height=height, class_="cell", pointer_events="none")


def _bar(bar: Bar, x: _Scale, top: float, row: float, left: float, *, percent: bool) -> Markup:
    start, end = sorted((x(0.0), x(bar.value)))
    value = _number(bar.value, percent=percent)
    interval = ""
    parts = []
    if bar.low is not None and bar.high is not None:
        interval = f" ({_number(bar.low, percent=percent)} to {_number(bar.high, percent=percent)})"
        middle = top + row / 2
        parts.append(_tag("path", class_="whisker", d=f"M{x(bar.low):.1f} {middle - 4:.1f}v8m0 -4H{x(bar.high):.1f}m0 -4v8"))
    tip = ". ".join(filter(None, (f"{bar.label}: {value}{interval}", bar.note)))
    beyond = max(end, x(bar.high) if bar.high is not None else end)
    return Markup("").join(
        [
            _text(left - 8, top + row * 0.68, SIGNS[bar.tone] + _short(bar.label), "end"),
            _box(start, top + 3, max(end - start, 1.0), row - 6, bar.tone, tip),
            *parts,
            _text(beyond + 5, top + row * 0.68, value, "soft"),
        ]
    )


def _line(series: Series, index: int, x: _Scale, y: _Scale, x_names: Sequence[str], *, percent: bool) -> Markup:
    style = index % len(DASHES)
    parts = []
    if series.band:
        upper = [f"{x(at):.1f},{y(high):.1f}" for (at, _), (_, high) in zip(series.points, series.band, strict=True)]
        lower = [f"{x(at):.1f},{y(low):.1f}" for (at, _), (low, _) in zip(series.points, series.band, strict=True)]
        parts.append(_tag("polygon", class_=f"band f{style}", points=" ".join([*upper, *reversed(lower)])))
    path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in series.points)
    parts.append(_tag("polyline", class_=f"line s{style}", points=path, stroke_dasharray=DASHES[style]))
    for at, value in series.points if len(series.points) <= 120 else ():
        place = x_names[int(at)] if x_names and 0 <= int(at) < len(x_names) else _number(at)
        tip = _tag("title", escape(f"{series.name}, {place}: {_number(value, percent=percent)}"))
        parts.append(_tag("circle", tip, class_=f"f{style}", cx=x(at), cy=y(value), r=2.6))
    return Markup("").join(parts)


def _names(series: Sequence[Series], y: _Scale, right: float) -> Markup:
    """Names at the ends of the lines, pushed apart so that none hides another."""
    wanted = sorted((y(each.points[-1][1]), index) for index, each in enumerate(series) if each.points)
    parts, last = [], -100.0
    for height, index in wanted:
        last = max(height, last + 14)
        parts.append(_tag("text", escape(_short(series[index].name)), x=right + 8, y=last + 4, class_=f"f{index % len(DASHES)}"))
    return Markup("").join(parts)


def _y_grid(y: _Scale, left: float, right: float, *, percent: bool = False) -> Markup:
    return Markup("").join(
        _tag("line", class_="grid", x1=left, x2=right, y1=y(tick), y2=y(tick))
        + _text(left - 6, y(tick) + 4, _number(tick, percent=percent), "soft end")
        for tick in y.ticks()
    )


def _x_grid(x: _Scale, top: float, bottom: float, *, percent: bool) -> Markup:
    lines = Markup("").join(_tag("line", class_="grid", x1=x(tick), x2=x(tick), y1=top, y2=bottom) for tick in x.ticks())
    return lines + _x_ticks(x, bottom, percent=percent)


def _x_ticks(x: _Scale, bottom: float, *, percent: bool = False) -> Markup:
    return Markup("").join(_text(x(tick), bottom + 16, _number(tick, percent=percent), "soft mid") for tick in x.ticks())


def _named_ticks(x: _Scale, bottom: float, names: Sequence[str]) -> Markup:
    """As many names as there is room for."""
    room = max((len(name) for name in names), default=1) * CHAR_WIDTH + 12
    every = max(1, math.ceil(len(names) * room / max(x.end - x.start, 1)))
    return Markup("").join(_text(x(index), bottom + 16, name, "soft mid") for index, name in enumerate(names) if index % every == 0)


def _x_references(references: Sequence[Reference], x: _Scale, top: float, bottom: float) -> Markup:
    return Markup("").join(
        _tag("line", class_="mark", x1=x(each.at), x2=x(each.at), y1=top, y2=bottom)
        + _text(x(each.at), top - 4, each.label, "soft mid")
        for each in references
        if x.low <= each.at <= x.high
    )


def _y_reference(reference: Reference, y: _Scale, left: float, right: float) -> Markup:
    line = _tag("line", class_="mark", x1=left, x2=right, y1=y(reference.at), y2=y(reference.at))
    return line + _text(right - 4, y(reference.at) - 5, reference.label, "soft end")


def _axes(x_label: str, y_label: str, left: float, bottom: float) -> Markup:
    return _text(left, bottom + 36, x_label, "soft") + _text(0, 32, y_label, "soft")


def _nothing(top: float) -> Markup:
    return _text(0, top + 14, "Nothing to show.", "soft")


def _room(labels: Sequence[str], *, least: float) -> float:
    """Width that the longest label takes once it is cut."""
    return max([least, *(min(len(label) + 2, LABEL_CHARS + 2) * CHAR_WIDTH + 12 for label in labels)])


def _short(label: str, chars: int = LABEL_CHARS) -> str:
    return label if len(label) <= chars else f"{label[: chars - 1]}…"


def _number(value: float, *, percent: bool = False) -> str:
    if percent:
        shown = f"{value * 100:.1f}"
        return f"{shown.removesuffix('.0')} %"
    if abs(value - round(value)) < 1e-9:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _ends_of(series: Sequence[Series], *, percent: bool) -> str:
    return "; ".join(
        f"{each.name} from {_number(each.points[0][1], percent=percent)} to {_number(each.points[-1][1], percent=percent)}"
        for each in series
        if each.points
    )
