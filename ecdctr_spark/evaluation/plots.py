"""The report's plots as geometry; report.html draws them as SVG.

Positions across are in percent of the plot's width and positions down in pixels: a plot fits a phone and a desktop,
and its text keeps its size. A style is a number, which the page's style sheet turns into a colour of the reader's
theme, a shape and a dash: no plot relies on colour alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ecdctr_spark.evaluation.lineage import Line, Member
from ecdctr_spark.evaluation.significance import Interval

Rows = Sequence[Mapping[str, Any]]

Titles = Mapping[str, str]  # name to title of what is drawn, in order

STYLES = 8
_HEIGHT = 260
_DATES = 8  # labels on an axis of dates
_APART, _WIDEST = 16, 4000  # pixels between models of the lineage, and of a whole plot
_DAY = 2.5  # pixels of a day: a year fits a desktop
_CLOCKS = {"month": "monthly", "week": "weekly", "day": "daily"}


class Tick(NamedTuple):
    """A labelled position on an axis. A `minor` label is left out where there is little room."""

    at: float
    text: str
    minor: bool = False


class Stroke(NamedTuple):
    """A straight line between two points. `kind` is a class of the style sheet."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


class Mark(NamedTuple):
    """A point, and what it says when it is pointed at."""

    x: float
    y: float
    style: int
    text: str


class Caption(NamedTuple):
    """Text at a height, at the left edge."""

    y: float
    text: str


class Plot(NamedTuple):
    """A drawing of `height` pixels, at least `width` pixels wide: on a narrower screen it scrolls. `label` says in
    words what it shows. `legend` has the styles that need a name."""

    label: str
    height: int
    across: Sequence[Tick] = ()
    down: Sequence[Tick] = ()
    strokes: Sequence[Stroke] = ()
    marks: Sequence[Mark] = ()
    legend: Sequence[tuple[int, str]] = ()
    captions: Sequence[Caption] = ()
    width: int = 0
    title: str = ""


def by_day(days: Rows, methods: Titles, field: str, title: str, target: float | None = None) -> Plot:
    """A line per method of METRICS rows, one per (date, method). A dashed line shows the value to aim at."""
    known = [row for row in days if row[field] is not None]
    dates = sorted({dt.date.fromisoformat(row["date"]) for row in known})
    values = [row[field] for row in known] + ([] if target is None else [target])
    level = _Scale.around(values)
    marks, strokes = [], [] if target is None else [Stroke(0, level.down(target), 100, level.down(target), "aim")]
    for style, (method, name) in enumerate(methods.items()):
        points = sorted((dt.date.fromisoformat(row["date"]), row[field]) for row in known if row["method"] == method)
        drawn = [
            Mark(_between(day, dates), level.down(value), style, f"{name}, {day}: {title} {value:.4f}")
            for day, value in points
        ]
        marks += drawn
        strokes += _joined(drawn, style)
    return Plot(
        label=f"{title} by day of {listed(methods.values())}",
        height=_HEIGHT,
        across=_dates(dates, lambda day: _between(day, dates)),
        down=level.ticks(level.down),
        strokes=strokes,
        marks=marks,
        legend=list(enumerate(methods.values())),
        width=min(math.ceil(_DAY * len(dates)), _WIDEST),
    )


def calibration(reliability: Rows, methods: Titles) -> Plot:
    """Observed against predicted click rate for each bin of `calibration.reliability`, and the diagonal."""
    reach = _Scale.around([0.0, *(max(row["prediction"], row["click_rate"]) for row in reliability)])
    marks, strokes = [], [Stroke(0, reach.down(reach.low), 100, reach.down(reach.high), "aim")]
    for style, (method, name) in enumerate(methods.items()):
        bins = sorted((row for row in reliability if row["method"] == method), key=lambda row: row["bin"])
        drawn = [
            Mark(
                reach.across(row["prediction"]),
                reach.down(row["click_rate"]),
                style,
                f"{name}: predicted {row['prediction']:.4f}, clicked {row['click_rate']:.4f},"
                f" {row['impressions']:,.0f} impressions",
            )
            for row in bins
        ]
        marks += drawn
        strokes += _joined(drawn, style)
    return Plot(
        label=f"Observed click rate by predicted click probability of {listed(methods.values())}",
        height=_HEIGHT,
        across=reach.ticks(reach.across),
        down=reach.ticks(reach.down),
        strokes=strokes,
        marks=marks,
        legend=list(enumerate(methods.values())),
        title="mean predicted click probability",
    )


def intervals(against: Mapping[str, Interval], methods: Titles) -> Plot:
    """The GAUC difference to each other method with its interval, and the line of no difference."""
    measured = {name: interval for name, interval in against.items() if interval.tells}
    scale = _Scale.around([0.0, *(end for each in measured.values() for end in (each.low, each.high))])
    marks, strokes, captions = [], [Stroke(scale.across(0), 0, scale.across(0), 46 * len(measured), "zero")], []
    for row, (name, interval) in enumerate(measured.items()):
        y = 46 * row + 32
        said = f"{interval.difference:+.4f}, 95 % interval {interval.low:+.4f} to {interval.high:+.4f}"
        strokes.append(Stroke(scale.across(interval.low), y, scale.across(interval.high), y, "range"))
        marks.append(Mark(scale.across(interval.difference), y, 0, said))
        captions.append(Caption(y - 16, f"Difference to {methods[name]}"))
    return Plot(
        label=f"GAUC difference to {listed(methods[name] for name in measured)}, with 95 % intervals",
        height=46 * len(measured) + 4,
        across=scale.ticks(scale.across, "{:+g}"),
        strokes=strokes,
        marks=marks,
        captions=captions,
    )


def lineage(models: Sequence[Member], lines: Sequence[Line]) -> Plot:
    """Every model at its date, one row per line, with an arrow from each parent that is drawn.

    Days are as far apart as the square root of the days between them: monthly models would squeeze daily ones together.
    """
    dates = sorted({member.row["date"] for member in models})
    place = _shortened(dates)
    drawn = [line for line in lines if any(member.line == line for member in models)]
    top = {line: 72 * row + 48 for row, line in enumerate(drawn)}
    before: Counter[tuple[Line, dt.date]] = Counter()
    at: dict[str, tuple[float, float]] = {}
    for member in models:  # models of one line and date are stacked
        key = member.line, member.row["date"]
        at[member.row["model_id"]] = place[key[1]], top[member.line] + 9 * before[key]
        before[key] += 1
    strokes = [
        Stroke(*at[link.parent], *at[member.row["model_id"]], f"link {link.how}")
        for member in models
        for link in member.links
        if link.parent in at
    ]
    marks = [Mark(*at[member.row["model_id"]], lines.index(member.line), member.row["model_id"]) for member in models]
    return Plot(
        label=f"The models of {listed(line.title for line in drawn)} by date, and what each was made from",
        height=72 * len(drawn) + 6,
        across=_dates(dates, place.__getitem__),
        strokes=strokes,
        marks=marks,
        captions=[Caption(top[line] - 22, f"{line.title}, {_CLOCKS[line.every]}") for line in drawn],
        width=_wide_enough(sorted(place.values())),
    )


class _Scale(NamedTuple):
    """Values from `low` to `high` in steps of `step`."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float]) -> _Scale:
        """Round ends around the values."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        reach = (high - low) or abs(high) or 1.0
        size = 10.0 ** math.floor(math.log10(reach / 5))
        step = next(size * each for each in (1, 2, 5, 10) if size * each >= reach / 5)
        below = math.floor(low / step + 1e-9)
        above = max(math.ceil(high / step - 1e-9), below + 1)
        return cls(below * step, above * step, step)

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def across(self, value: float) -> float:
        return round(100 * self.share(value), 3)

    def down(self, value: float) -> float:
        return round((1 - self.share(value)) * _HEIGHT, 1)

    def ticks(self, place: Callable[[float], float], form: str = "") -> list[Tick]:
        count = round((self.high - self.low) / self.step)
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        values = [self.low + self.step * each for each in range(count + 1)]
        # Rounded first, so that no axis shows -0.
        rounded = [round(value, decimals) + 0.0 for value in values]
        texts = [(form or f"{{:.{decimals}f}}").format(value) if value else "0" for value in rounded]
        return [
            Tick(place(value), text, index % 2 == 1)
            for index, (value, text) in enumerate(zip(values, texts, strict=True))
        ]


def _joined(marks: Sequence[Mark], style: int) -> list[Stroke]:
    return [Stroke(one.x, one.y, other.x, other.y, f"line s{style}") for one, other in pairwise(marks)]


def _between(day: dt.date, dates: Sequence[dt.date]) -> float:
    """The position of a day on an axis from the first to the last of the dates; 50 for a single one."""
    span = (dates[-1] - dates[0]).days
    return round(100 * (day - dates[0]).days / span, 3) if span else 50.0


def _shortened(dates: Sequence[dt.date]) -> dict[dt.date, float]:
    """Positions of ascending dates, as far apart as the square root of the days between them."""
    reached, total = {date: 0.0 for date in dates[:1]}, 0.0
    for one, other in pairwise(dates):
        total += math.sqrt((other - one).days)
        reached[other] = total
    return {date: round(100 * at / total, 3) if total else 50.0 for date, at in reached.items()}


def _wide_enough(positions: Sequence[float]) -> int:
    """The width in pixels at which marks at these positions do not overlap, within reason."""
    gaps = [other - one for one, other in pairwise(positions)]
    return min(math.ceil(100 * _APART / min(gaps)), _WIDEST) if gaps else 0


def _dates(dates: Sequence[dt.date], place: Callable[[dt.date], float]) -> list[Tick]:
    """Labels of some of the ascending dates, the first and the last included, that do not overlap. A year is named
    where it begins."""
    apart, chosen = 100 / _DATES, list(dates[:1])
    for date in dates[1:]:
        if date == dates[-1] and len(chosen) > 1 and place(date) - place(chosen[-1]) < apart:
            chosen[-1] = date
        elif date == dates[-1] or place(date) - place(chosen[-1]) >= apart:
            chosen.append(date)
    years = [None, *(date.year for date in chosen)]
    return [
        Tick(
            place(date),
            f"{date:%b} {date.day}" + ("" if date.year == years[index] else f", {date.year}"),
            index % 2 == 1 and date != chosen[-1],
        )
        for index, date in enumerate(chosen)
    ]


def listed(titles: Iterable[str]) -> str:
    """Titles in words."""
    *others, last = [*titles] or ["none"]
    return f"{', '.join(others)} and {last}" if others else last
