"""One HTML page that opens without a network: who ranks the next day's ads better, and what that rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ecdctr_spark.evaluation import plots
from ecdctr_spark.evaluation.plots import Rows, named
from ecdctr_spark.evaluation.significance import Interval
from ecdctr_spark.storage import Root

ALL_DAYS = "all"  # the date of metrics over all days together


@dataclass(frozen=True)
class Report:
    """What the page tells, as rows of the tables METRICS (date "all": over all days), MODELS and STEPS, of
    `calibration.reliability`, of quarantine counted (source, reason, rows) and of HEALTH summed up (domain, measure,
    feature, days, least, greatest, low, high, outside); the configuration as YAML.
    `interval` is of the GAUC difference of `model` and `baseline`.
    """

    model: str
    baseline: str
    interval: Interval
    metrics: Rows
    reliability: Rows
    models: Rows
    steps: Rows
    quarantine: Rows
    health: Rows
    configuration: str


class Column(NamedTuple):
    """A column of a printed table; a `form` (as of str.format) makes it a figure, set to the right."""

    title: str
    field: str
    form: str = ""


class Grid(NamedTuple):
    """A printed table."""

    columns: tuple[Column, ...]
    rows: list[list[str]]


_METRICS = (
    Column("Day", "date"),
    Column("Model", "model"),
    Column("GAUC", "gauc", "{:.4f}"),
    Column("GAUC coverage", "gauc_coverage", "{:.1%}"),
    Column("AUC", "auc", "{:.4f}"),
    Column("Log loss", "logloss", "{:.4f}"),
    Column("PCOC", "pcoc", "{:.3f}"),
    Column("Impressions", "impressions", "{:,.0f}"),
    Column("Clicks", "clicks", "{:,.0f}"),
)
_STAGES = (
    Column("Stage", "stage"),
    Column("Runs", "runs", "{:,.0f}"),
    Column("Rows read", "rows_read", "{:,.0f}"),
    Column("Rows kept", "rows_kept", "{:,.0f}"),
    Column("Duplicates", "duplicates", "{:,.0f}"),
    Column("Quarantined", "quarantined", "{:,.0f}"),
    Column("Seconds", "seconds", "{:,.1f}"),
)
_QUARANTINE = (Column("Table", "source"), Column("Reason", "reason"), Column("Rows", "rows", "{:,.0f}"))
_HEALTH = (
    Column("Measure", "measure"),
    Column("Domain", "domain"),
    Column("Feature", "feature"),
    Column("Days", "days", "{:,.0f}"),
    Column("Least", "least", "{:,.4g}"),
    Column("Greatest", "greatest", "{:,.4g}"),
    Column("At least", "low", "{:g}"),
    Column("At most", "high", "{:g}"),
    Column("Days outside", "outside", "{:,.0f}"),
)
_MODELS = (
    Column("Model", "model_id"),
    Column("Level", "level"),
    Column("Days read", "read"),
    Column("Made from", "made_from"),
    Column("Table versions", "versions"),
    Column("Rows", "rows", "{:,.0f}"),
    Column("Seconds", "seconds", "{:,.1f}"),
)


def render(report: Report, output: Root) -> None:
    """Writes the page, plotly.js inlined, in one move."""
    by_stage = _stages(report)
    daily = [row for row in report.metrics if row["date"] != ALL_DAYS]
    figures = {
        "gauc": plots.gauc_by_day(daily),
        "calibration": plots.calibration(report.reliability),
        "lineage": plots.lineage(report.models),
        "seconds": plots.seconds([row["stage"] for row in by_stage], [row["seconds"] for row in by_stage]),
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html").render(
        headline=headline(report),
        cards=_cards(report),
        failures=[row["subject"] for row in report.steps if row["step"] == "failed"],
        pooled=_grid(_metrics([row for row in report.metrics if row["date"] == ALL_DAYS]), _METRICS[1:]),
        daily=_grid(_metrics(daily), _METRICS),
        stages=_grid(by_stage, _STAGES),
        quarantine=_grid(report.quarantine, _QUARANTINE),
        health=_grid(report.health, _HEALTH),
        models=_grid(_lineage(report.models), _MODELS),
        configuration=report.configuration,
        plotly=Markup(get_plotlyjs()),
        **{f"{name}_plot": _html(name, figure) for name, figure in figures.items()},
    )
    output.write_bytes(page.encode())


def headline(report: Report) -> str:
    """The result in a sentence or two: which model ranks better by GAUC, by how much, and how sure that is."""
    ours, theirs = named(report.model), f"the {named(report.baseline)} baseline"
    interval = report.interval
    if interval.users == 0:
        return f"{ours} and {theirs} cannot be compared: no user clicked some ads predicted by both and not others."
    if interval.low > 0:
        verdict = f"{ours} ranks the next day's ads better than {theirs}"
    elif interval.high < 0:
        verdict = f"{ours} ranks the next day's ads worse than {theirs}"
    else:
        verdict = f"{ours} and {theirs} cannot be told apart on the next day's ads"
    return (
        f"{verdict}: the GAUC difference is {interval.difference:+.4f}, with a 95 % interval of "
        f"{interval.low:+.4f} to {interval.high:+.4f}. GAUC is over {interval.users:,} users with both classes, "
        f"a coverage of {_coverage(report)} of the impressions."
    )


def _coverage(report: Report) -> str:
    return _shown(_all_days(report, report.model).get("gauc_coverage"), "{:.1%}")


def _all_days(report: Report, model: str) -> Mapping[str, Any]:
    """The model's metrics on the ads of all days; empty where it predicted none."""
    rows = (row for row in report.metrics if (row["date"], row["domain"]) == (ALL_DAYS, "ad"))
    return next((row for row in rows if row["model"] == model), {})


def _cards(report: Report) -> list[tuple[str, str]]:
    gaucs = [
        (f"GAUC, {named(model)}", _shown(_all_days(report, model).get("gauc"), "{:.4f}"))
        for model in (report.model, report.baseline)
    ]
    difference, low, high = (
        _shown(number if report.interval.users else None, "{:+.4f}")
        for number in (report.interval.difference, report.interval.low, report.interval.high)
    )
    return [
        *gaucs,
        ("GAUC difference", difference),
        ("95 % interval", f"{low} to {high}"),
        ("GAUC coverage", _coverage(report)),
    ]


def _metrics(metrics: Rows) -> Rows:
    ordered = sorted(metrics, key=lambda row: (str(row["date"]), row["domain"], row["model"]))
    return [{**row, "model": named(row["model"])} for row in ordered]


def _stages(report: Report) -> Rows:
    """Runs, rows and seconds of each stage, in the order that data pass: ingest, build, trainings, predict."""
    runs = [{**row, "stage": row["step"]} for row in report.steps]
    runs += [{**row, "stage": f"train {named(row['level'])}", "rows_read": row["rows"]} for row in report.models]
    order = ("ingest", "build", *(f"train {name}" for name in plots.NAMES.values()), "predict")
    return [_summed(stage, [run for run in runs if run["stage"] == stage]) for stage in order]


def _summed(stage: str, runs: Rows) -> dict[str, Any]:
    sums: dict[str, Any] = {"stage": stage, "runs": len(runs), "seconds": sum(run["seconds"] for run in runs)}
    for field in ("rows_read", "rows_kept", "duplicates", "quarantined"):
        told = [run[field] for run in runs if run.get(field) is not None]
        sums[field] = sum(told) if told else None
    return sums


def _lineage(models: Rows) -> Rows:
    return [
        {
            **model,
            "level": named(model["level"]),
            "read": f"{min(model['days'])} to {max(model['days'])}",
            "made_from": ", ".join(model["parents"]) or "logs alone",
            "versions": ", ".join(f"{table} {version}" for table, version in sorted(model["tables"].items())),
        }
        for model in sorted(models, key=lambda model: (model["date"], list(plots.NAMES).index(model["level"])))
    ]


def _grid(rows: Rows, columns: tuple[Column, ...]) -> Grid:
    return Grid(columns, [[_shown(row[column.field], column.form or "{}") for column in columns] for row in rows])


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def _html(name: str, figure: Any) -> Markup:
    options = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"{name}-plot", config=options))
