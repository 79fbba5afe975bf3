"""One HTML page that opens without a network: which method ranks the next day's ads better, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ecdctr_spark.evaluation import plots
from ecdctr_spark.evaluation.plots import Rows, Titles
from ecdctr_spark.evaluation.significance import Interval

ALL_DAYS = "all"  # the date of metrics over all days together


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Rows of METRICS (date "all": over all days), of `calibration.reliability`, of MODELS and STEPS, of quarantine counts
    (source, reason, rows) and of a summary of HEALTH (domain, measure, feature, days, least, greatest, low, high,
    outside); the configuration as YAML. `methods` and `levels` map names to titles, in order. The first method is
    compared with each of the others: `against` has the intervals of the GAUC differences.
    """

    methods: Titles
    levels: Titles
    against: Mapping[str, Interval]
    metrics: Rows
    reliability: Rows
    models: Rows
    steps: Rows
    quarantine: Rows
    health: Rows
    configuration: str

    @property
    def method(self) -> str:
        """The method that is compared with the others."""
        return next(iter(self.methods))


class Column(NamedTuple):
    """A column of a printed table. A `form` (for str.format) makes it a figure, aligned to the right."""

    title: str
    field: str
    form: str = ""


class Grid(NamedTuple):
    """A printed table."""

    columns: tuple[Column, ...]
    rows: list[list[str]]


_METRICS = (
    Column("Day", "date"),
    Column("Method", "method"),
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


def render(report: Report) -> str:
    """The page as HTML, with plotly.js inlined."""
    by_stage = _stages(report)
    daily = [row for row in report.metrics if row["date"] != ALL_DAYS]
    figures = {
        "gauc": plots.gauc_by_day(daily, report.methods),
        "calibration": plots.calibration(report.reliability, report.methods),
        "lineage": plots.lineage(report.models, report.levels),
        "seconds": plots.seconds([row["stage"] for row in by_stage], [row["seconds"] for row in by_stage]),
    }
    pages = PackageLoader("ecdctr_spark", "evaluation")
    environment = Environment(loader=pages, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page: str = environment.get_template("report.html").render(
        methods=" and ".join(report.methods.values()),
        headline=headline(report),
        cards=_cards(report),
        failures=[row["detail"] for row in report.steps if row["step"] == "failed"],
        immature=[row["date"] for row in daily if not row["mature"]],
        pooled=_grid(_metrics(report, [row for row in report.metrics if row["date"] == ALL_DAYS]), _METRICS[1:]),
        daily=_grid(_metrics(report, daily), _METRICS),
        stages=_grid(by_stage, _STAGES),
        quarantine=_grid(report.quarantine, _QUARANTINE),
        health=_grid(report.health, _HEALTH),
        models=_grid(_lineage(report), _MODELS),
        configuration=report.configuration,
        plotly=Markup(get_plotlyjs()),
        **{f"{name}_plot": _html(name, figure) for name, figure in figures.items()},
    )
    return page


def headline(report: Report) -> str:
    """The result in a sentence or two: which method ranks better by GAUC, by how much, and with what certainty."""
    if not report.against:
        title, gauc = report.methods[report.method], _all_days(report, report.method).get("gauc")
        return f"{title} ranks the next day's ads with a GAUC of {_shown(gauc, '{:.4f}')}, {_covered(report)}"
    compared = (_compared(report, baseline, interval) for baseline, interval in report.against.items())
    return " ".join([*compared, f"GAUC is {_covered(report)}"])


def _compared(report: Report, baseline: str, interval: Interval) -> str:
    ours, theirs = report.methods[report.method], report.methods[baseline]
    if interval.users == 0:
        return f"{ours} and {theirs} cannot be compared: no user clicked only some of the ads that both predicted."
    if interval.low > 0:
        verdict = f"{ours} ranks the next day's ads better than {theirs}"
    elif interval.high < 0:
        verdict = f"{ours} ranks the next day's ads worse than {theirs}"
    else:
        verdict = f"{ours} and {theirs} show no significant difference on the next day's ads"
    return (
        f"{verdict}: the GAUC difference is {interval.difference:+.4f}, with a 95 % interval of "
        f"{interval.low:+.4f} to {interval.high:+.4f} over {interval.users:,} users with both classes."
    )


def _covered(report: Report) -> str:
    return f"over the users with both classes, who have {_coverage(report)} of the impressions."


def _coverage(report: Report) -> str:
    return _shown(_all_days(report, report.method).get("gauc_coverage"), "{:.1%}")


def _all_days(report: Report, method: str) -> Mapping[str, Any]:
    """The method's metrics on the ads of all days; empty where it predicted none."""
    rows = (row for row in report.metrics if (row["date"], row["domain"]) == (ALL_DAYS, "ad"))
    return next((row for row in rows if row["method"] == method), {})


def _cards(report: Report) -> list[tuple[str, str]]:
    cards = [
        (f"GAUC, {title}", _shown(_all_days(report, method).get("gauc"), "{:.4f}"))
        for method, title in report.methods.items()
    ]
    for baseline, interval in report.against.items():
        difference, low, high = (
            _shown(number if interval.users else None, "{:+.4f}")
            for number in (interval.difference, interval.low, interval.high)
        )
        cards.append((f"Difference to {report.methods[baseline]}", difference))
        cards.append(("95 % interval", f"{low} to {high}"))
    return [*cards, ("GAUC coverage", _coverage(report))]


def _metrics(report: Report, metrics: Rows) -> Rows:
    place = list(report.methods)
    ordered = sorted(metrics, key=lambda row: (str(row["date"]), row["domain"], place.index(row["method"])))
    return [{**row, "method": report.methods[row["method"]]} for row in ordered]


def _stages(report: Report) -> Rows:
    """Runs, rows and seconds of each stage, in the order of the data: ingest, build, trainings, predict."""
    # An ingest is several rows of the ledger, one of which has its counts.
    runs = [{**row, "stage": row["step"]} for row in report.steps if row["rows_read"] is not None]
    runs += [
        {**row, "stage": f"train {report.levels[row['level']]}", "rows_read": row["rows"]} for row in report.models
    ]
    order = ("ingest", "build", *(f"train {title}" for title in report.levels.values()), "predict")
    return [_summed(stage, [run for run in runs if run["stage"] == stage]) for stage in order]


def _summed(stage: str, runs: Rows) -> dict[str, Any]:
    sums: dict[str, Any] = {"stage": stage, "runs": len(runs), "seconds": sum(run["seconds"] for run in runs)}
    for field in ("rows_read", "rows_kept", "duplicates", "quarantined"):
        counts = [run[field] for run in runs if run.get(field) is not None]
        sums[field] = sum(counts) if counts else None
    return sums


def _lineage(report: Report) -> Rows:
    place = list(report.levels)
    return [
        {
            **model,
            "level": report.levels[model["level"]],
            "read": f"{min(model['days'])} to {max(model['days'])}",
            "made_from": ", ".join(model["parents"]) or "logs alone",
            "versions": ", ".join(f"{table} {version}" for table, version in sorted(model["tables"].items())),
        }
        for model in sorted(report.models, key=lambda model: (model["date"], place.index(model["level"])))
    ]


def _grid(rows: Rows, columns: tuple[Column, ...]) -> Grid:
    return Grid(columns, [[_shown(row[column.field], column.form or "{}") for column in columns] for row in rows])


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def _html(name: str, figure: Any) -> Markup:
    options = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"{name}-plot", config=options))
