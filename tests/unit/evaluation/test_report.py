"""The report gives the result honestly, completely, and without a network."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from ecdctr_spark.evaluation.lineage import Line, Link, Member, Replaced
from ecdctr_spark.evaluation.report import Report, headline, render
from ecdctr_spark.evaluation.significance import Interval

DAY = dt.date(2024, 3, 1)
NAN = float("nan")
OURS, THEIRS = "ecdctr-1a2b3c4d", "ads_only-5e6f7a8b"


def metric(date: str, method: str, gauc: float | None) -> dict[str, Any]:
    shares = {"auc": 0.7, "gauc": gauc, "gauc_coverage": 0.812, "logloss": 0.3, "pcoc": 1.05}
    names = {"date": date, "method": method, "model_id": f"{method}-1", "domain": "ad"}
    return {**names, **shares, "impressions": 1234, "clicks": 100, "mature": True}


TPM, CPM, ACTR = Line("TPM", "month"), Line("CPM", "week"), Line("A-CTR", "day")


def model(level: str, line: Line, *links: Link, date: dt.date = DAY) -> Member:
    names = {"model_id": f"{level}-{date}", "level": level, "date": date, "parents": [link.parent for link in links]}
    made = {"days": [date, date], "tables": {"vocabulary": 3, "samples": 7}, "rows": 5000, "seconds": 2.5, "ranks": 1}
    return Member({**names, **made}, line, links)


def step(name: str, *counts: int | None, detail: str | None = None) -> dict[str, Any]:
    fields = ("rows_read", "rows_kept", "duplicates", "quarantined", "seconds")
    return {"step": name, "detail": detail, **dict(zip(fields, counts, strict=True))}


def measure(name: str, feature: str | None, least: float, greatest: float, outside: int) -> dict[str, Any]:
    found = {"domain": "ad", "measure": name, "feature": feature, "days": 9, "least": least, "greatest": greatest}
    return {**found, "low": None, "high": 0.125, "judged": 9, "outside": outside}


@pytest.fixture
def report() -> Report:
    days = [metric("2024-03-02", OURS, 0.66), metric("2024-03-02", THEIRS, None)]
    return Report(
        methods={OURS: "E-CDCTR", THEIRS: "ads only"},
        lines=[TPM, CPM, ACTR],
        against={THEIRS: Interval(0.021, 0.011, 0.031, 3121)},
        metrics=[*days, metric("all", OURS, 0.6512), metric("all", THEIRS, 0.6302)],
        reliability=[{"method": OURS, "bin": 1, "impressions": 9, "prediction": 0.1, "click_rate": 0.2}],
        models=[
            model("cpm", CPM),
            model("actr", ACTR, Link("starts", f"cpm-{DAY}"), Link("taught", "cpm-of-long-ago")),
        ],
        replaced=[],
        steps=[
            step("ingest", 100, 90, 6, 4, 3),
            step("ingest", None, None, None, None, 0),
            step("ingest", 50, 50, 0, 0, 2),
            step("predict", 10, 10, 0, 0, 1),
        ],
        quarantine=[{"source": "clicks", "reason": "click without an impression", "rows": 4}],
        health=[measure("null_rate", "item_category", 0.01, 0.2, 1), measure("impressions", None, 0.0, 900.0, 0)],
        configuration="storage:\n  root: <here>\n",
    )


@pytest.fixture
def page(report: Report) -> str:
    return render(report)


def cells(page: str, first: str) -> list[str]:
    """The table row that opens with `first`."""
    row = re.search(rf"<tr>\s*<td>{re.escape(first)}</td>.*?</tr>", page, flags=re.DOTALL)
    assert row, f"no row {first}"
    return re.findall(r"<td[^>]*>(.*?)</td>", row[0])


@pytest.mark.parametrize(
    ("interval", "opening"),
    [
        (Interval(0.02, 0.01, 0.03, 20), "E-CDCTR ranks the next day's ads better than ads only: "),
        (Interval(-0.02, -0.03, -0.01, 20), "E-CDCTR ranks the next day's ads worse than ads only: "),
        (Interval(0.01, -0.01, 0.03, 20), "E-CDCTR and ads only show no significant difference"),
        (Interval(0.02, 0.0, 0.03, 20), "E-CDCTR and ads only show no significant difference"),
        (Interval(-0.02, -0.03, 0.0, 20), "E-CDCTR and ads only show no significant difference"),
        (Interval(NAN, NAN, NAN, 0), "E-CDCTR and ads only cannot be compared: no users clicked some"),
        (Interval(0.02, 0.01, 0.03, 19), "E-CDCTR and ads only cannot be compared: 19 users clicked some"),
    ],
)
def test_the_headline_says_who_wins_only_where_the_interval_does(
    report: Report, interval: Interval, opening: str
) -> None:
    assert headline(replace(report, against={THEIRS: interval})).startswith(opening)


def test_the_headline_gives_difference_interval_users_and_coverage(report: Report) -> None:
    for figure in ("+0.0210", "+0.0110 to +0.0310", "3,121 users", "81.2%"):
        assert figure in headline(report)


def test_metrics_are_shown_by_day_and_over_all_days_and_what_is_unknown_is_a_dash(page: str) -> None:
    assert cells(page, "E-CDCTR") == [
        "E-CDCTR", "0.6512", "81.2%", "0.7000", "0.3000", "1.050", "1,234", "100", "mature",
    ]  # fmt: skip
    assert [row[2] for row in re.findall(r"<td>(2024-03-02)</td>\s*<td>(.*?)</td>\s*<td[^>]*>(.*?)</td>", page)] == [
        "0.6600",
        "-",
    ]


def test_days_whose_clicks_may_still_come_are_named(report: Report, page: str) -> None:
    assert "may change" not in page
    last = metric("2024-03-03", OURS, 0.7) | {"mature": False}
    of_before = metric("2024-03-01", THEIRS, 0.7) | {"mature": None}  # by a version that did not know
    later = render(replace(report, metrics=[*report.metrics, last, of_before]))
    assert "Clicks and rows of 2024-03-01, 2024-03-03 may still come" in later
    assert cells(later, "2024-03-03")[-1] == "may change"
    assert "1 with mature labels" in later


def test_stages_sum_their_runs(page: str) -> None:
    # 5 of 11 seconds
    assert cells(page, "ingest")[:-1] == ["ingest", "2", "150", "140", "6", "4", "5.0", "30"]
    assert cells(page, "ingest")[-1].startswith("45.5%")
    assert cells(page, "train A-CTR")[:-1] == ["train A-CTR", "1", "5,000", "-", "-", "-", "2.5", "2,000"]
    assert cells(page, "train TPM") == ["train TPM", "0", *["-"] * 4, "0.0", "-", cells(page, "train TPM")[-1]]


def test_a_model_names_what_it_was_made_from(page: str) -> None:
    read, made_from, *_, ranks, versions, name = cells(page, f"A-CTR of {DAY}")[1:]
    assert read == f"{DAY} to {DAY}"
    assert made_from == f"starts from CPM of {DAY}; is taught by cpm-of-long-ago"
    assert (ranks, versions, name) == ("1", "samples 7, vocabulary 3", f"actr-{DAY}")
    assert cells(page, f"CPM of {DAY}")[2] == "logs alone"


def test_the_lineage_has_a_mark_per_model_and_an_arrow_per_parent(report: Report) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(3)]
    chain = [model("actr", ACTR, Link("continues", f"actr-{before}"), date=day) for before, day in pairwise(days)]
    memory = model("cpm", CPM, Link("remembers", f"tpm-{DAY}"), date=days[2])
    page = render(replace(report, models=[*report.models, model("tpm", TPM), *chain, memory]))
    (lineage,) = re.findall(r"<h2>Lineage</h2>(.*?)<details>", page, flags=re.DOTALL)
    marks = re.findall(r'<svg class="mark s(\d)" x="([\d.]+)%" y="([\d.]+)"><title>(.*?)</title>', lineage)
    assert {name: style for style, _, _, name in marks} == {
        f"tpm-{DAY}": "0", f"cpm-{DAY}": "1", f"cpm-{days[2]}": "1", **{f"actr-{day}": "2" for day in days},
    }  # fmt: skip
    place = {name: (float(x), float(y)) for _, x, y, name in marks}
    arrows = re.findall(r'class="link (\w+)" x1="([\d.]+)%" y1="([\d.]+)" x2="([\d.]+)%" y2="([\d.]+)"', lineage)
    drawn = {(how, (float(x1), float(y1)), (float(x2), float(y2))) for how, x1, y1, x2, y2 in arrows if x2 != "28"}
    assert drawn == {
        ("starts", place[f"cpm-{DAY}"], place[f"actr-{DAY}"]),  # none from cpm-of-long-ago, which is not drawn
        ("continues", place[f"actr-{days[0]}"], place[f"actr-{days[1]}"]),
        ("continues", place[f"actr-{days[1]}"], place[f"actr-{days[2]}"]),
        ("remembers", place[f"tpm-{DAY}"], place[f"cpm-{days[2]}"]),
    }
    assert len(set(place.values())) == len(marks)  # none hides another
    for title in ("TPM, monthly", "CPM, weekly", "A-CTR, daily"):
        assert f">{title}</text>" in lineage


def test_models_of_one_level_and_date_are_drawn_apart(report: Report) -> None:
    other = report.models[0]._replace(row={**report.models[0].row, "model_id": "cpm-of-other-parents"})
    page = render(replace(report, models=[*report.models, other]))
    places = re.findall(r'<svg class="mark s1" x="(.*?)" y="(.*?)"><title>cpm', page)
    assert len(places) == len(set(places)) == 2


def test_a_day_that_an_older_model_predicted_is_named(report: Report, page: str) -> None:
    assert "each day was predicted on the newest models due" in page
    day = dt.date(2024, 3, 2)
    old = [Replaced(day, "E-CDCTR", CPM, due=DAY, used=DAY - dt.timedelta(days=7)), Replaced(day, "x", TPM, DAY, None)]
    (table,) = re.findall(
        r"older models than due</h3>(.*?)</section>", render(replace(report, replaced=old)), re.DOTALL
    )
    assert re.findall(r"<td[^>]*>(.*?)</td>", table) == [
        "2024-03-02", "E-CDCTR", "CPM", "2024-03-01", "2024-02-23", "7",
        "2024-03-02", "x", "TPM", "2024-03-01", "-", "-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.021, 0.011, 0.031, 20), "It stays above 0, so the gain is hardly chance."),
        (Interval(-0.02, -0.03, -0.01, 20), "It stays below 0, so the loss is hardly chance."),
        (Interval(0.01, -0.01, 0.03, 20), "That includes 0, so these days do not show which of the two ranks better"),
        (Interval(0.02, 0.0, 0.03, 20), "That includes 0, so these days do not show which of the two ranks better"),
        (Interval(-0.02, -0.03, 0.0, 20), "That includes 0, so these days do not show which of the two ranks better"),
    ],
)
def test_the_comparison_is_put_in_words_without_statistics(report: Report, interval: Interval, verdict: str) -> None:
    text = render(replace(report, against={THEIRS: interval}))
    assert "E-CDCTR ranks the clicked one first in 65.1% of such pairs, ads only in 63.0%" in text
    ends = f"{100 * interval.low:+.2f} and {100 * interval.high:+.2f}"
    assert f"the difference to ads only lies between {ends} points in 95 of 100 draws" in text
    assert verdict in text


def test_gauc_and_calibration_have_a_mark_per_day_and_method(report: Report) -> None:
    days = [metric(f"2024-03-0{day}", method, 0.6) for day in (2, 3, 4) for method in (OURS, THEIRS)]
    page = render(replace(report, metrics=days))
    for title in ("GAUC", "predicted over observed clicks"):
        for method in ("E-CDCTR", "ads only"):
            assert len(re.findall(rf"<title>{method}, 2024-03-0\d: {title} [\d.]+</title>", page)) == 3


def test_failures_are_reported_and_text_is_escaped(report: Report, page: str) -> None:
    assert "What failed" not in page
    assert "root: &lt;here&gt;" in page
    failed = step("failed", None, None, None, None, None, detail="cpm of 2024-03-01 failed: <script>")
    assert "cpm of 2024-03-01 failed: &lt;script&gt;" in render(replace(report, steps=[*report.steps, failed]))


def test_titles_are_escaped_wherever_they_are_shown(report: Report) -> None:
    named = {"methods": {OURS: "<b>ours", THEIRS: "<b>theirs"}, "lines": [Line("<b>line", "day")]}
    models = [member._replace(line=Line("<b>line", "day")) for member in report.models]
    page = render(replace(report, **named, models=models))
    assert "<b>" not in page
    assert page.count("&lt;b&gt;ours") > 3 and page.count("&lt;b&gt;line") > 3


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    assert not re.search(r"<(script|link|img|iframe|base)|(src|href)\s*=|https?:", page)
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_a_year_of_days_stays_a_small_page(report: Report) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(365)]
    metrics = [metric(str(day), method, 0.6) for day in days for method in (OURS, THEIRS)]
    chain = [model("actr", ACTR, Link("continues", f"actr-{before}"), date=day) for before, day in pairwise(days)]
    assert len(render(report).encode()) < 60_000
    assert len(render(replace(report, metrics=metrics, models=chain)).encode()) < 1_500_000


def test_every_method_and_level_is_named(report: Report, page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for title in (*report.methods.values(), *(line.title for line in report.lines)):
        assert title in text


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, #rrggbb (WCAG 2.2)."""
    shares = [[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in (one, other)]
    linear = [[x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels] for channels in shares]
    darker, lighter = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear)
    return (lighter + 0.05) / (darker + 0.05)


def test_both_themes_have_every_colour_with_enough_contrast(page: str) -> None:
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    )
    assert "@media screen and (prefers-color-scheme: dark)" in page  # on paper, it is light
    assert light.keys() == dark.keys() == set(re.findall(r"var\(--(\w+)\)", page))
    for theme in (light, dark):
        for name in ("ink", "quiet", "accent", "bad", *(f"s{style}" for style in range(8))):
            assert min(contrast(theme[name], theme[below]) for below in ("card", "ground")) > 4.5, name


def test_every_plot_says_in_words_what_it_shows(page: str) -> None:
    labels = re.findall(r'<svg role="img" aria-label="(.*?)"', page)
    assert len(labels) == 5
    assert "GAUC by day of E-CDCTR and ads only" in labels


def test_the_page_renders_before_anything_was_predicted(report: Report) -> None:
    nothing = {THEIRS: Interval(NAN, NAN, NAN, 0)}
    empty = replace(report, against=nothing, metrics=[], reliability=[], models=[], steps=[], quarantine=[])
    assert "cannot be compared" in render(empty)


def test_a_method_alone_is_compared_with_none(report: Report) -> None:
    alone = replace(report, methods={OURS: "E-CDCTR"}, against={}, metrics=[metric("all", OURS, 0.6512)])
    assert headline(alone).startswith(
        "E-CDCTR ranks the next day's ads with a GAUC of 0.6512, over the users with both"
    )
    assert "ads only" not in render(alone)


def test_each_other_method_has_its_own_verdict(report: Report) -> None:
    third = {**report.against, "third-1": Interval(-0.02, -0.03, -0.01, 20)}
    said = headline(replace(report, methods={**report.methods, "third-1": "STAR"}, against=third))
    assert "better than ads only" in said and "worse than STAR" in said


def test_the_health_of_the_data_is_shown_with_its_limits(page: str) -> None:
    assert "2 measures" in page
    assert "Outside limits" in page
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    assert re.search(r"null rate +ad +item_category +9 +0\.01 +0\.2 +- +0\.125 +9 +1 ", text)


def test_the_configuration_shows_no_password(report: Report) -> None:
    page = render(replace(report, configuration="tracking:\n  uri: http://me:secret@mlflow:5000\n"))
    assert "http://***@mlflow:5000" in page and "secret" not in page


def test_as_many_clicks_as_were_predicted_is_what_is_aimed_at(page: str) -> None:
    _, _, plot = page.partition("<title>predicted over observed clicks by day")
    one = re.search(r'y="([\d.]+)" dy="0.35em">1.00<', plot)
    aim = re.search(r'class="aim" x1="0%" y1="([\d.]+)"', plot)
    assert one and aim and one[1] == aim[1]
