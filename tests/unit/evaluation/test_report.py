"""The report gives the result honestly, completely, and without a network."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from typing import Any

import pytest

from ecdctr_spark.evaluation import plots
from ecdctr_spark.evaluation.report import Report, headline, render
from ecdctr_spark.evaluation.significance import Interval

DAY = dt.date(2024, 3, 1)
NAN = float("nan")
OURS, THEIRS = "ecdctr-1a2b3c4d", "ads_only-5e6f7a8b"


def metric(date: str, method: str, gauc: float | None) -> dict[str, Any]:
    shares = {"auc": 0.7, "gauc": gauc, "gauc_coverage": 0.812, "logloss": 0.3, "pcoc": 1.05}
    names = {"date": date, "method": method, "model_id": f"{method}-1", "domain": "ad"}
    return {**names, **shares, "impressions": 1234, "clicks": 100, "mature": True}


def model(level: str, parents: list[str]) -> dict[str, Any]:
    names = {"model_id": f"{level}-{DAY}", "level": level, "date": DAY, "parents": parents}
    return {**names, "days": [DAY, DAY], "tables": {"vocabulary": 3, "samples": 7}, "rows": 5000, "seconds": 2.5}


def step(name: str, *counts: int | None, detail: str | None = None) -> dict[str, Any]:
    fields = ("rows_read", "rows_kept", "duplicates", "quarantined", "seconds")
    return {"step": name, "detail": detail, **dict(zip(fields, counts, strict=True))}


def measure(name: str, feature: str | None, least: float, greatest: float, outside: int) -> dict[str, Any]:
    found = {"domain": "ad", "measure": name, "feature": feature, "days": 9, "least": least, "greatest": greatest}
    return {**found, "low": None, "high": 0.125, "outside": outside}


@pytest.fixture
def report() -> Report:
    days = [metric("2024-03-02", OURS, 0.66), metric("2024-03-02", THEIRS, None)]
    return Report(
        methods={OURS: "E-CDCTR", THEIRS: "ads only"},
        levels={"cpm": "CPM", "actr": "A-CTR"},
        against={THEIRS: Interval(0.021, 0.011, 0.031, 3121)},
        metrics=[*days, metric("all", OURS, 0.6512), metric("all", THEIRS, 0.6302)],
        reliability=[{"method": OURS, "bin": 1, "impressions": 9, "prediction": 0.1, "click_rate": 0.2}],
        models=[model("cpm", []), model("actr", [f"cpm-{DAY}", "cpm-of-long-ago"])],
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
    """The page without the text of plotly.js."""
    return without_plotly(render(report))


def without_plotly(page: str) -> str:
    return re.sub(r"<script>/\*\*.*?</script>", "<script></script>", page, count=1, flags=re.DOTALL)


def cells(page: str, first: str) -> list[str]:
    """The table row that opens with `first`."""
    row = re.search(rf"<tr>\s*<td>{re.escape(first)}</td>.*?</tr>", page, flags=re.DOTALL)
    assert row, f"no row {first}"
    return re.findall(r"<td[^>]*>(.*?)</td>", row[0])


@pytest.mark.parametrize(
    ("interval", "opening"),
    [
        (Interval(0.02, 0.01, 0.03, 9), "E-CDCTR ranks the next day's ads better than ads only: "),
        (Interval(-0.02, -0.03, -0.01, 9), "E-CDCTR ranks the next day's ads worse than ads only: "),
        (Interval(0.01, -0.01, 0.03, 9), "E-CDCTR and ads only show no significant difference"),
        (Interval(NAN, NAN, NAN, 0), "E-CDCTR and ads only cannot be compared: no user"),
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
    assert cells(page, "E-CDCTR") == ["E-CDCTR", "0.6512", "81.2%", "0.7000", "0.3000", "1.050", "1,234", "100"]
    assert [row[2] for row in re.findall(r"<td>(2024-03-02)</td>\s*<td>(.*?)</td>\s*<td[^>]*>(.*?)</td>", page)] == [
        "0.6600",
        "-",
    ]


def test_days_whose_clicks_may_still_come_are_named(report: Report, page: str) -> None:
    assert "may change" not in page
    last = metric("2024-03-03", OURS, 0.7) | {"mature": False}
    of_before = metric("2024-03-01", THEIRS, 0.7) | {"mature": None}  # by a version that did not know
    later = without_plotly(render(replace(report, metrics=[*report.metrics, last, of_before])))
    assert "Clicks and rows of 2024-03-01, 2024-03-03 may still come" in later


def test_stages_sum_their_runs(page: str) -> None:
    assert cells(page, "ingest") == ["ingest", "2", "150", "140", "6", "4", "5.0"]
    assert cells(page, "train A-CTR") == ["train A-CTR", "1", "5,000", "-", "-", "-", "2.5"]


def test_a_model_names_what_it_was_made_from(page: str) -> None:
    row = cells(page, f"actr-{DAY}")
    assert row[2:5] == [f"{DAY} to {DAY}", f"cpm-{DAY}, cpm-of-long-ago", "samples 7, vocabulary 3"]
    assert cells(page, f"cpm-{DAY}")[3] == "logs alone"


def test_a_line_leads_from_each_model_to_those_it_was_made_from(report: Report) -> None:
    edges, *_ = plots.lineage(report.models, report.levels).data
    assert list(zip(edges.x, edges.y, strict=True)) == [(str(DAY), "CPM"), (str(DAY), "A-CTR"), (None, None)]


def test_failures_are_reported_and_text_is_escaped(report: Report, page: str) -> None:
    assert "What failed" not in page
    assert "root: &lt;here&gt;" in page
    failed = step("failed", None, None, None, None, None, detail="cpm of 2024-03-01 failed: <script>")
    assert "cpm of 2024-03-01 failed: &lt;script&gt;" in render(replace(report, steps=[*report.steps, failed]))


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["']""", page)
    assert "@import" not in page and "url(" not in page


def test_the_page_renders_before_anything_was_predicted(report: Report) -> None:
    nothing = {THEIRS: Interval(NAN, NAN, NAN, 0)}
    empty = replace(report, against=nothing, metrics=[], reliability=[], models=[], steps=[], quarantine=[])
    assert "cannot be compared" in render(empty)


def test_a_method_alone_is_compared_with_none(report: Report) -> None:
    alone = replace(report, methods={OURS: "E-CDCTR"}, against={}, metrics=[metric("all", OURS, 0.6512)])
    assert headline(alone).startswith(
        "E-CDCTR ranks the next day's ads with a GAUC of 0.6512, over the users with both"
    )
    assert "ads only" not in re.sub(r"<script.*?</script>", "", render(alone), flags=re.DOTALL)


def test_each_other_method_has_its_own_verdict(report: Report) -> None:
    third = {**report.against, "third-1": Interval(-0.02, -0.03, -0.01, 9)}
    said = headline(replace(report, methods={**report.methods, "third-1": "STAR"}, against=third))
    assert "better than ads only" in said and "worse than STAR" in said


def test_the_health_of_the_data_is_shown_with_its_limits(page: str) -> None:
    assert "2 measures" in page
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    assert re.search(r"null_rate +ad +item_category +9 +0\.01 +0\.2 +- +0\.125 +1 ", text)
