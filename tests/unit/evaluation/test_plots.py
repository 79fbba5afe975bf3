"""The geometry of the report's plots."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from ecdctr_spark.evaluation.lineage import Line, Link, Member
from ecdctr_spark.evaluation.plots import Plot, Stroke, Tick, by_day, calibration, intervals, lineage, listed
from ecdctr_spark.evaluation.significance import Interval

METHODS = {"ours": "E-CDCTR", "alone": "ads only"}
HEIGHT = 260


def rated(*values: tuple[str, str, float | None]) -> list[dict[str, Any]]:
    return [{"method": method, "date": date, "gauc": value} for method, date, value in values]


def daily(first: dt.date, number: int) -> list[dict[str, Any]]:
    """A method's values on consecutive days."""
    return rated(*(("ours", str(first + dt.timedelta(days=day)), 0.5) for day in range(number)))


def texts(ticks: Sequence[Tick]) -> list[str]:
    return [tick.text for tick in ticks]


@pytest.fixture
def two_methods() -> Plot:
    days = rated(("ours", "2024-03-03", 0.8), ("ours", "2024-03-01", 0.6), ("alone", "2024-03-02", 0.7))
    return by_day([*days, *rated(("alone", "2024-03-03", None))], METHODS, "gauc", "GAUC", target=0.5)


def test_days_lie_at_their_distance_and_values_at_their_height_from_the_lowest_of_the_scale(two_methods: Plot) -> None:
    places = {mark.text: (mark.x, mark.y, mark.style) for mark in two_methods.marks}
    assert places == {
        "E-CDCTR, 2024-03-01: GAUC 0.6000": (0.0, pytest.approx(HEIGHT * 2 / 3, abs=0.1), 0),
        "E-CDCTR, 2024-03-03: GAUC 0.8000": (100.0, 0.0, 0),
        "ads only, 2024-03-02: GAUC 0.7000": (50.0, pytest.approx(HEIGHT / 3, abs=0.1), 1),
    }


def test_the_days_of_a_method_are_joined_in_their_order_and_the_value_to_aim_at_is_a_line_across(
    two_methods: Plot,
) -> None:
    assert two_methods.strokes == [
        Stroke(0, HEIGHT, 100, HEIGHT, "aim"),
        Stroke(0.0, pytest.approx(173.3), 100.0, 0.0, "line s0"),
    ]


def test_methods_are_named_in_the_legend_and_in_words(two_methods: Plot) -> None:
    assert list(two_methods.legend) == [(0, "E-CDCTR"), (1, "ads only")]
    assert two_methods.label == "GAUC by day of E-CDCTR and ads only"


def test_a_plot_without_a_value_to_aim_at_draws_none() -> None:
    assert by_day(daily(dt.date(2024, 3, 1), 1), METHODS, "gauc", "GAUC").strokes == []


def test_a_single_day_is_in_the_middle() -> None:
    plot = by_day(daily(dt.date(2024, 3, 1), 1), METHODS, "gauc", "GAUC")
    assert [mark.x for mark in plot.marks] == [50.0]
    assert [(label.at, label.text) for label in plot.across] == [(50.0, "Mar 1, 2024")]


@pytest.mark.parametrize(("days", "width"), [(10, 25), (365, 913), (3000, 4000)])
def test_many_days_get_a_wider_plot_within_reason(days: int, width: int) -> None:
    assert by_day(daily(dt.date(2015, 1, 1), days), METHODS, "gauc", "GAUC").width == width


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.61, 0.79), ["0.60", "0.65", "0.70", "0.75", "0.80"]),
        ((0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((-0.05, 0.15), ["-0.05", "0", "0.05", "0.10", "0.15"]),
        ((3.0, 48.0), ["0", "10", "20", "30", "40", "50"]),
        ((0.7, 0.7), ["0.6", "0.8"]),
        ((0.0, 0.0), ["0", "0.2"]),
    ],
)
def test_a_scale_has_round_steps_from_a_round_value_below_all_to_one_above(
    values: tuple[float, float], labels: list[str]
) -> None:
    low, high = values
    plot = by_day(rated(("ours", "2024-03-01", low), ("ours", "2024-03-02", high)), METHODS, "gauc", "GAUC")
    assert texts(plot.down) == labels
    assert [tick.at for tick in plot.down] == pytest.approx(
        [HEIGHT * (1 - place / (len(labels) - 1)) for place in range(len(labels))], abs=0.1
    )
    assert [tick.minor for tick in plot.down] == [place % 2 == 1 for place in range(len(labels))]


def test_dates_are_labelled_as_far_as_they_do_not_overlap_the_first_and_the_last_always() -> None:
    few = by_day(daily(dt.date(2024, 2, 28), 3), METHODS, "gauc", "GAUC").across
    assert few == [
        Tick(0.0, "Feb 28, 2024"),
        Tick(50.0, "Feb 29", minor=True),
        Tick(100.0, "Mar 1"),
    ]
    many = by_day(daily(dt.date(2024, 1, 1), 31), METHODS, "gauc", "GAUC").across
    assert texts(many) == ["Jan 1, 2024", "Jan 5", "Jan 9", "Jan 13", "Jan 17", "Jan 21", "Jan 25", "Jan 31"]
    assert min(other.at - one.at for one, other in pairwise(many)) >= 100 / 8
    assert [tick.minor for tick in many] == [False, True, False, True, False, True, False, False]


def test_a_year_is_named_where_it_begins() -> None:
    plot = by_day(daily(dt.date(2023, 12, 31), 3), METHODS, "gauc", "GAUC")
    assert texts(plot.across) == ["Dec 31, 2023", "Jan 1, 2024", "Jan 2"]


def test_calibration_has_a_mark_per_bin_from_low_to_high_and_the_diagonal() -> None:
    rows = [
        {"method": "ours", "bin": 2, "prediction": 0.8, "click_rate": 1.0, "impressions": 1234},
        {"method": "ours", "bin": 1, "prediction": 0.2, "click_rate": 0.5, "impressions": 10},
    ]
    plot = calibration(rows, METHODS)
    assert [(mark.x, mark.y, mark.style) for mark in plot.marks] == [(20.0, 130.0, 0), (80.0, 0.0, 0)]
    assert plot.marks[1].text == "E-CDCTR: predicted 0.8000, clicked 1.0000, 1,234 impressions"
    assert plot.strokes == [Stroke(0, HEIGHT, 100, 0, "aim"), Stroke(20.0, 130.0, 80.0, 0.0, "line s0")]
    assert texts(plot.across) == texts(plot.down) == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.at for tick in plot.across] == [0, 20, 40, 60, 80, 100]


def test_an_interval_lies_on_a_scale_that_shows_no_difference_too() -> None:
    enough = Interval(0.02, 0.01, 0.03, 20)
    unknown = Interval(0.5, 0.4, 0.6, 19)
    plot = intervals({"alone": enough, "few": unknown}, {**METHODS, "few": "few users"})
    assert plot.strokes == [
        Stroke(0.0, 0, 0.0, 46, "zero"),
        Stroke(pytest.approx(100 / 3, abs=0.01), 32, 100.0, 32, "range"),
    ]
    (mark,), (caption,) = plot.marks, plot.captions
    assert (mark.x, mark.y, mark.style) == (pytest.approx(200 / 3, abs=0.01), 32, 0)
    assert mark.text == "+0.0200, 95 % interval +0.0100 to +0.0300"
    assert (caption.y, caption.text) == (16, "Difference to ads only")
    assert texts(plot.across) == ["0", "+0.01", "+0.02", "+0.03"]
    assert plot.height == 50


def test_intervals_are_one_below_the_other() -> None:
    each = Interval(-0.02, -0.03, -0.01, 20)
    plot = intervals({"alone": each, "ours": each}, METHODS)
    assert [mark.y for mark in plot.marks] == [32, 78]
    assert [caption.y for caption in plot.captions] == [16, 62]
    assert plot.strokes[0] == Stroke(100.0, 0, 100.0, 92, "zero")
    assert plot.label == "GAUC difference to ads only and E-CDCTR, with 95 % intervals"


MONTHLY, DAILY = Line("TPM", "month"), Line("A-CTR", "day")


def member(model: str, date: dt.date, line: Line, *links: Link) -> Member:
    return Member({"model_id": model, "date": date}, line, links)


def test_models_lie_in_the_row_of_their_line_stacked_on_one_date_with_an_arrow_from_each_parent() -> None:
    models = [
        member("tpm", dt.date(2024, 2, 29), MONTHLY),
        member("one", dt.date(2024, 3, 1), DAILY, Link("remembers", "tpm"), Link("continues", "elsewhere")),
        member("two", dt.date(2024, 3, 5), DAILY, Link("continues", "one")),
        member("other", dt.date(2024, 3, 5), DAILY),
    ]
    plot = lineage(models, [Line("unused", "week"), MONTHLY, DAILY])
    # The square roots of 1 and 4 days.
    third = pytest.approx(100 / 3, abs=0.01)
    assert {mark.text: (mark.x, mark.y, mark.style) for mark in plot.marks} == {
        "tpm": (0.0, 48, 1),
        "one": (third, 120, 2),
        "two": (100.0, 120, 2),
        "other": (100.0, 129, 2),
    }
    assert plot.strokes == [
        Stroke(0.0, 48, third, 120, "link remembers"),
        Stroke(third, 120, 100.0, 120, "link continues"),
    ]
    assert [(caption.y, caption.text) for caption in plot.captions] == [(26, "TPM, monthly"), (98, "A-CTR, daily")]
    assert plot.height == 150
    assert plot.width == 49  # 16 pixels for a third of the width
    assert plot.label == "The models of TPM and A-CTR by date, and what each was made from"


def test_models_of_one_date_are_in_the_middle_and_need_no_width() -> None:
    plot = lineage([member("tpm", dt.date(2024, 2, 29), MONTHLY)], [MONTHLY])
    assert [mark.x for mark in plot.marks] == [50.0]
    assert plot.width == 0


@pytest.mark.parametrize(
    ("titles", "words"),
    [([], "none"), (["one"], "one"), (["one", "two"], "one and two"), (["one", "two", "three"], "one, two and three")],
)
def test_titles_are_listed_as_in_a_sentence(titles: list[str], words: str) -> None:
    assert listed(titles) == words
