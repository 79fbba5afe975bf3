"""One HTML page that opens without a network: which method ranks the next day's ads better, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from ecdctr_spark.evaluation import plots
from ecdctr_spark.evaluation.lineage import How, Line, Member, Replaced
from ecdctr_spark.evaluation.plots import Rows, Titles
from ecdctr_spark.evaluation.significance import LEAST_USERS, Interval
from ecdctr_spark.events import without_secrets

ALL_DAYS = "all"  # the date of metrics over all days together


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Rows of METRICS (date "all": over all days), of `calibration.reliability`, of STEPS, of quarantine counts (source,
    reason, rows) and of checking.summary (measures of HEALTH); the configuration as YAML. `methods` maps names to
    titles, in order. The first method is compared with each of the others: `against` has the intervals of the GAUC
    differences. `models` are the models that the results depend on, `lines` the levels that they are of; `replaced`
    says which days were predicted on older models than due.
    """

    methods: Titles
    against: Mapping[str, Interval]
    metrics: Rows
    reliability: Rows
    lines: Sequence[Line]
    models: Sequence[Member]
    replaced: Sequence[Replaced]
    steps: Rows
    quarantine: Rows
    health: Rows
    configuration: str

    @property
    def method(self) -> str:
        """The method that is compared with the others."""
        return next(iter(self.methods))

    @property
    def daily(self) -> Rows:
        """The metrics of single days."""
        return [row for row in self.metrics if row["date"] != ALL_DAYS]


class Column(NamedTuple):
    """A column of a printed table. A `form` (for str.format) makes it a figure, aligned to the right. `look` is "long"
    for text that may be broken, "bar" for shares that are drawn too."""

    title: str
    field: str
    form: str = ""
    look: Literal["", "long", "bar"] = ""


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
    Column("Labels", "labels"),
)
_STAGES = (
    Column("Stage", "stage"),
    Column("Runs", "runs", "{:,.0f}"),
    Column("Rows read", "rows_read", "{:,.0f}"),
    Column("Rows kept", "rows_kept", "{:,.0f}"),
    Column("Duplicates", "duplicates", "{:,.0f}"),
    Column("Quarantined", "quarantined", "{:,.0f}"),
    Column("Seconds", "seconds", "{:,.1f}"),
    Column("Rows/s", "rate", "{:,.0f}"),
    Column("Share of the time", "share", "{:.1%}", "bar"),
)
_QUARANTINE = (Column("Table", "source"), Column("Reason", "reason", look="long"), Column("Rows", "rows", "{:,.0f}"))
_HEALTH = (
    Column("Measure", "measure"),
    Column("Domain", "domain"),
    Column("Feature", "feature"),
    Column("Days", "days", "{:,.0f}"),
    Column("Least", "least", "{:,.4g}"),
    Column("Greatest", "greatest", "{:,.4g}"),
    Column("At least", "low", "{:g}"),
    Column("At most", "high", "{:g}"),
    Column("Days judged", "judged", "{:,.0f}"),
    Column("Days outside", "outside", "{:,.0f}"),
)
_MODELS = (
    Column("Model", "model"),
    Column("Days read", "read"),
    Column("Made from", "made_from", look="long"),
    Column("Rows", "rows", "{:,.0f}"),
    Column("Seconds", "seconds", "{:,.1f}"),
    Column("Ranks", "ranks", "{:,.0f}"),
    Column("Table versions", "versions", look="long"),
    Column("Name", "model_id"),
)
_REPLACED = (
    Column("Day", "day"),
    Column("Method", "method"),
    Column("Level", "level"),
    Column("Model due", "due"),
    Column("Model used", "used"),
    Column("Days older", "older", "{:,.0f}"),
)
# How a model was made from a parent.
_LINKS: dict[How, str] = {
    "continues": "continues",
    "starts": "starts from",
    "remembers": "uses the snapshot of",
    "taught": "is taught by",
}


def render(report: Report) -> str:
    """The page as HTML. It holds its plots and styles, and no script."""
    environment = Environment(
        loader=PackageLoader("ecdctr_spark", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = {link.how for member in report.models for link in member.links}
    page: str = environment.get_template("report.html").render(
        methods=plots.listed(report.methods.values()),
        headline=headline(report),
        pairs=_pairs(report),
        chances=[_chance(report, baseline) for baseline, interval in report.against.items() if interval.tells],
        cards=_cards(report),
        failures=[row["detail"] for row in report.steps if row["step"] == "failed"],
        immature=_immature(report),
        days=sorted({row["date"] for row in report.daily}),
        styles=plots.STYLES,
        links={how: text for how, text in _LINKS.items() if how in made},
        intervals=plots.intervals(report.against, report.methods),
        gauc=plots.by_day(report.daily, report.methods, "gauc", "GAUC"),
        pcoc=plots.by_day(report.daily, report.methods, "pcoc", "predicted over observed clicks", target=1.0),
        calibration=plots.calibration(report.reliability, report.methods),
        lineage=plots.lineage(report.models, report.lines),
        pooled=_grid(_metrics(report, [row for row in report.metrics if row["date"] == ALL_DAYS]), _METRICS[1:]),
        daily=_grid(_metrics(report, report.daily), _METRICS),
        replaced=_grid(_replaced(report), _REPLACED),
        stages=_grid(_stages(report), _STAGES),
        quarantine=_grid(report.quarantine, _QUARANTINE),
        health=_grid(_health(report.health), _HEALTH),
        unhealthy=_grid(_health([row for row in report.health if row["outside"]]), _HEALTH),
        models=_grid(_models(report), _MODELS),
        configuration=without_secrets(report.configuration),
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
    if not interval.tells:
        return (
            f"{ours} and {theirs} cannot be compared: {interval.users or 'no'} users clicked some of the ads that both"
            f" predicted and not others, and an interval needs {LEAST_USERS}."
        )
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


def _pairs(report: Report) -> str:
    """GAUC in words that need no statistics."""
    shares = {title: _all_days(report, method).get("gauc") for method, title in report.methods.items()}
    (ours, share), *others = shares.items()
    theirs = "".join(f", {title} in {_shown(gauc, '{:.1%}')}" for title, gauc in others)
    return (
        f"Take two ads shown to one user, who clicked one of them: {ours} ranks the clicked one first in"
        f" {_shown(share, '{:.1%}')} of such pairs{theirs}."
    )


def _chance(report: Report, baseline: str) -> str:
    """What the interval of a difference says, and what it does not."""
    interval = report.against[baseline]
    if interval.low > 0:
        verdict = "It stays above 0, so the gain is hardly chance"
    elif interval.high < 0:
        verdict = "It stays below 0, so the loss is hardly chance"
    else:
        verdict = "That includes 0, so these days do not show which of the two ranks better; more of them may"
    return (
        f"If users are drawn at random again, the difference to {report.methods[baseline]} lies between"
        f" {100 * interval.low:+.2f} and {100 * interval.high:+.2f} points in 95 of 100 draws. {verdict}."
    )


def _covered(report: Report) -> str:
    return f"over the users with both classes, who have {_coverage(report)} of the impressions."


def _coverage(report: Report) -> str:
    return _shown(_all_days(report, report.method).get("gauc_coverage"), "{:.1%}")


def _all_days(report: Report, method: str) -> Mapping[str, Any]:
    """The method's metrics on the ads of all days; empty where it predicted none."""
    rows = (row for row in report.metrics if (row["date"], row["domain"]) == (ALL_DAYS, "ad"))
    return next((row for row in rows if row["method"] == method), {})


def _cards(report: Report) -> list[tuple[str, str, str]]:
    """Title, number and a note to it."""
    cards = [
        (f"GAUC, {title}", _shown(_all_days(report, method).get("gauc"), "{:.4f}"), "")
        for method, title in report.methods.items()
    ]
    for baseline, interval in report.against.items():
        difference, low, high = (
            _shown(number if interval.tells else None, "{:+.4f}")
            for number in (interval.difference, interval.low, interval.high)
        )
        cards.append((f"Difference to {report.methods[baseline]}", difference, f"95 % interval {low} to {high}"))
    ours, days = _all_days(report, report.method), {row["date"] for row in report.daily}
    return [
        *cards,
        ("GAUC coverage", _coverage(report), "of the impressions"),
        ("Impressions", _shown(ours.get("impressions"), "{:,.0f}"), f"{_shown(ours.get('clicks'), '{:,.0f}')} clicked"),
        ("Days", str(len(days)), f"{len(days.difference(_immature(report)))} with mature labels"),
    ]


def _immature(report: Report) -> list[str]:
    """The days whose clicks and rows may still come."""
    return sorted({row["date"] for row in report.daily if not row["mature"]})


def _metrics(report: Report, metrics: Rows) -> Rows:
    place = list(report.methods)
    ordered = sorted(metrics, key=lambda row: (str(row["date"]), row["domain"], place.index(row["method"])))
    labels = {True: "mature", False: "may change", None: "may change"}  # None: by a version that did not know
    return [{**row, "method": report.methods[row["method"]], "labels": labels[row["mature"]]} for row in ordered]


def _replaced(report: Report) -> Rows:
    return [
        {
            **each._asdict(),
            "level": each.line.title,
            "older": (each.due - each.used).days if each.used else None,
        }
        for each in report.replaced
    ]


def _stages(report: Report) -> Rows:
    """Runs, rows and seconds of each stage, in the order of the data: ingest, build, trainings, predict."""
    # An ingest is several rows of the ledger, one of which has its counts.
    runs = [{**row, "stage": row["step"]} for row in report.steps if row["rows_read"] is not None]
    runs += [
        {"stage": f"train {member.line.title}", "rows_read": member.row["rows"], "seconds": member.row["seconds"]}
        for member in report.models
    ]
    order = ("ingest", "build", *(f"train {line.title}" for line in report.lines), "predict")
    summed = [_summed(stage, [run for run in runs if run["stage"] == stage]) for stage in order]
    total = sum(stage["seconds"] for stage in summed)
    return [{**stage, "share": stage["seconds"] / total if total else None} for stage in summed]


def _summed(stage: str, runs: Rows) -> dict[str, Any]:
    sums: dict[str, Any] = {"stage": stage, "runs": len(runs), "seconds": sum(run["seconds"] for run in runs)}
    for field in ("rows_read", "rows_kept", "duplicates", "quarantined"):
        counts = [run[field] for run in runs if run.get(field) is not None]
        sums[field] = sum(counts) if counts else None
    return {**sums, "rate": sums["rows_read"] / sums["seconds"] if sums["rows_read"] and sums["seconds"] else None}


def _health(rows: Rows) -> Rows:
    return [{**row, "measure": row["measure"].replace("_", " ")} for row in rows]


def _models(report: Report) -> Rows:
    titles = {member.row["model_id"]: f"{member.line.title} of {member.row['date']}" for member in report.models}

    def made_from(member: Member) -> str:
        named = (f"{_LINKS[link.how]} {titles.get(link.parent, link.parent)}" for link in member.links)
        return "; ".join(named) or "logs alone"

    return [
        {
            **member.row,
            "model": titles[member.row["model_id"]],
            "read": f"{min(member.row['days'])} to {max(member.row['days'])}",
            "made_from": made_from(member),
            "versions": ", ".join(f"{table} {version}" for table, version in sorted(member.row["tables"].items())),
        }
        for member in sorted(report.models, key=lambda each: (each.row["date"], report.lines.index(each.line)))
    ]


def _grid(rows: Rows, columns: tuple[Column, ...]) -> Grid:
    return Grid(columns, [[_shown(row[column.field], column.form or "{}") for column in columns] for row in rows])


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)
