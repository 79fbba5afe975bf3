"""The `ecdctr` command: one verb a step. Each loads the configuration, opens the tables and calls one function."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, cast, get_args

import click
import typer
from rich.console import Console
from rich.table import Table as Grid

from ecdctr_spark import doctor as health
from ecdctr_spark.config import Config, Level, load_config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="E-CDCTR on Spark: TPM, CPM and the ad model.",
)

Confs = Annotated[list[str], typer.Option("--conf", help="overlay file, or the name of one in conf/; later wins")]
Sets = Annotated[list[str], typer.Option("--set", help="a setting, dotted.key=value")]
From = Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="first day")]
To = Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="last day")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable output")]
ModelName = Annotated[str, typer.Option("--model", help="a model's name, as `ecdctr report` and the registry list it")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 done, 1 a step failed, 2 bad input, told in one line."""
    try:
        sys.exit(app(args=arguments, standalone_mode=False) or 0)
    except ConfigError as error:
        _end(str(error), 2)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except RuntimeError as error:
        _end(str(error), 1)


def _end(text: str, code: int) -> None:
    Console(stderr=True).print(f"error: {text}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)


@app.command()
def doctor() -> None:
    """Check Java, versions, Horovod and memory, and say how to mend what is wrong."""
    raise typer.Exit(health.report(health.environment_findings()))


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="an overlay in conf/ that names demo days")] = "movielens",
    set_: Sets = [],  # noqa: B006
) -> None:
    """The whole system on real ratings, day by day, to an HTML report."""
    config = load_config([data], set_)
    if config.demo is None:
        raise ConfigError(f"--data {data}: conf/{data}.yaml names no demo days; use movielens")
    _run(config, config.demo.first, config.demo.last)
    _report(config)


@app.command()
def ingest(from_: From, to: To, conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Raw logs to the canonical tables; bad rows to quarantine."""
    _counted("ingest", load_config(conf, set_), from_, to)


@app.command()
def build(from_: From, to: To, conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Canonical tables to samples."""
    _counted("build", load_config(conf, set_), from_, to)


@app.command()
def check(from_: From, to: To, conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Look at the health of the days that are built; exit code 2 where one is outside its limits."""
    from ecdctr_spark.pipeline import checking
    from ecdctr_spark.pipeline.steps import between

    config = load_config(conf, set_)
    store, first, last = _store(config), _day("--from", from_), _day("--to", to)
    broken = checking.check(store, config, first, last)
    _show_rows(checking.summary(store, between(first, last)))
    checking.refuse(broken)


@app.command()
def plan(from_: From, to: To, conf: Confs = [], set_: Sets = [], as_json: Json = False) -> None:  # noqa: B006
    """What is due, from which inputs, and which models were trained on days that have changed since."""
    from ecdctr_spark.pipeline.registry import outdated
    from ecdctr_spark.pipeline.run import planned_for

    config = load_config(conf, set_)
    store = _store(config)
    planned = planned_for(store, config, _day("--from", from_), _day("--to", to))
    restated = outdated(store, config)
    if as_json:
        models = {"outdated": [model._asdict() for model in restated]}
        typer.echo(json.dumps(asdict(planned) | models, default=str, indent=2))
        return
    _show_plan(planned)
    for model in restated:
        typer.echo(f"outdated {model.model_id}: {', '.join(map(str, model.days))} changed since it was trained")


@app.command()
def run(from_: From, to: To, conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Ingest, build, train, predict and evaluate whatever is due."""
    _run(load_config(conf, set_), _day("--from", from_), _day("--to", to))


@app.command()
def train(
    level: Annotated[str, typer.Option(help="tpm, cpm, actr or ads_only")],
    date: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="the last day that the model sees")],
    ranks: Annotated[int | None, typer.Option(help="Horovod ranks")] = None,
    launcher: Annotated[str | None, typer.Option(help="inline, horovodrun or spark")] = None,
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Train one model on the samples that are built."""
    from ecdctr_spark.pipeline.run import train_alone

    chosen = [f"training.ranks={ranks}"] if ranks else []
    chosen += [f"training.launcher={launcher}"] if launcher else []
    config = load_config(conf, [*set_, *chosen])
    if level not in get_args(Level):
        raise ConfigError(f"--level {level}: expected {', '.join(get_args(Level))}")
    row = train_alone(_store(config), config, cast(Level, level), _day("--date", date), Console())
    typer.echo(f"{row['model_id']}: {row['rows']:,} rows, published at {row['path']}")


@app.command()
def metrics(conf: Confs = [], set_: Sets = [], as_json: Json = False) -> None:  # noqa: B006
    """A row for each evaluated (date, model, domain), and one over all days."""
    from ecdctr_spark.pipeline.steps import read_metrics

    rows = read_metrics(_store(load_config(conf, set_)))
    if not rows:
        raise ConfigError("nothing has been evaluated yet: run `ecdctr run` first")
    if as_json:
        typer.echo(json.dumps(rows, default=str, indent=2))
    else:
        _show_rows(rows)


@app.command()
def export(
    model: ModelName,
    output: Annotated[str, typer.Option(help="folder to write, a path or a URI")],
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Write a model for serving: whole tables, no optimiser state, one signature."""
    from ecdctr_spark.pipeline.registry import model_named
    from ecdctr_spark.serving.export import export as write

    store = _store(load_config(conf, set_))
    write(store.root.at(model_named(store, model).path), Root.parse(output))
    typer.echo(f"{model}: exported to {output}")


@app.command()
def score(
    model: ModelName,
    input_: Annotated[str, typer.Option("--input", help="samples, a Delta table or Parquet files")],
    output: Annotated[str, typer.Option(help="Parquet folder to write")],
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Predict the click probability of samples with a registered model."""
    from ecdctr_spark.pipeline.steps import score_samples

    rows = score_samples(_store(load_config(conf, set_)), model, Root.parse(input_), Root.parse(output))
    typer.echo(f"{model}: {rows:,} predictions in {output}")


@app.command()
def forget(
    user: Annotated[str, typer.Option(help="a user_id of the logs")],
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Remove a user from every table and snapshot, past versions included."""
    from ecdctr_spark.pipeline.care import forget as erase

    config = load_config(conf, set_)
    for table, rows in erase(_store(config), config, user).items():
        typer.echo(f"{table:<14} {rows:,} rows removed")
    typer.echo("The raw logs are yours: remove the user there too, or the next ingest of those days brings them back.")


@app.command()
def tidy(conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Compact the tables and remove files that no model and no version of the last week needs."""
    from ecdctr_spark.pipeline.care import tidy as clean

    config = load_config(conf, set_)
    for table, hours in clean(_store(config), config).items():
        typer.echo(f"{table:<14} versions of the last {hours / 24:,.1f} days stay readable")


@app.command()
def report(conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Write the HTML report of what was trained and how it did."""
    _report(load_config(conf, set_))


def _store(config: Config) -> Any:
    """The tables. Imported here: a session takes seconds, and bad arguments should be told at once."""
    from ecdctr_spark.session import spark_session
    from ecdctr_spark.tables.store import Store

    root = Root.parse(config.storage.root)
    return Store(spark_session(config.spark.master, config.spark.driver_memory, root), root)


def _run(config: Config, first: dt.date, last: dt.date) -> None:
    from ecdctr_spark.pipeline.run import run as carry_out

    _say_terms(config.source.kind)
    carry_out(_store(config), config, first, last, Console())


def _counted(step: str, config: Config, first: str, last: str) -> None:
    from ecdctr_spark.pipeline.run import run_counted

    _say_terms(config.source.kind)
    counts = run_counted(_store(config), config, step, _day("--from", first), _day("--to", last), Console())
    typer.echo(
        f"{counts.rows_read:,} rows read = {counts.rows_kept:,} kept + {counts.duplicates:,} duplicates"
        f" + {counts.quarantined:,} quarantined"
        if step == "ingest"
        else f"{counts.rows_read:,} labelled impressions, {counts.rows_kept:,} samples"
    )


def _report(config: Config) -> None:
    from ecdctr_spark.pipeline.reporting import write_report
    from ecdctr_spark.pipeline.steps import read_metrics

    store = _store(config)
    _show_rows([row for row in read_metrics(store) if row["date"] == "all"])
    path, headline = write_report(store, config)
    typer.echo(headline)
    typer.echo(f"report: {path}")


def _say_terms(kind: str) -> None:
    from ecdctr_spark.sources import TERMS

    if kind in TERMS:
        typer.echo(TERMS[kind])


def _day(option: str, text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected a day as YYYY-MM-DD") from error


def _show_plan(planned: Any) -> None:
    from ecdctr_spark.pipeline.calendar import Prediction

    for name, ranges in (("ingest", planned.ingest), ("build", planned.build)):
        for first, last in ranges:
            typer.echo(f"{name:<8} {first}..{last}")
    for step in planned.by_day():
        if isinstance(step, Prediction):
            typer.echo(f"predict  {step.day} by {', '.join(step.levels)}")
        else:
            typer.echo(f"train    {step.level:<8} {step.date} {_inputs(step)}")
    if not len(planned):
        typer.echo("nothing is due")


def _inputs(training: Any) -> str:
    read = f"on {training.first}..{training.date}"
    parent = f", {training.transfer} {training.parent.level} {training.parent.date}" if training.parent else ", afresh"
    months = f", snapshots {', '.join(training.snapshots)}" if training.snapshots else ""
    return read + parent + months


def _show_rows(rows: list[dict[str, Any]]) -> None:
    grid = Grid(*rows[0])
    for row in rows:
        grid.add_row(*map(_shown, row.values()))
    Console(width=None if sys.stdout.isatty() else 160).print(grid)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
