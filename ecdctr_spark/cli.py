"""The `ecdctr` command: one subcommand per step, which loads the configuration and calls one function."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional, TextIO
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table as Grid

from ecdctr_spark import doctor as health
from ecdctr_spark import failures
from ecdctr_spark.config import Config, load_config
from ecdctr_spark.events import as_json, event, standard_error, without_secrets
from ecdctr_spark.lease import lease
from ecdctr_spark.settings.base import ConfigError, Settings, plain
from ecdctr_spark.storage import Root

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Confs = Annotated[list[str], typer.Option("--conf", help="overlay file, or the name of one in conf/; later ones win")]
Sets = Annotated[list[str], typer.Option("--set", help="a setting as dotted.key=value")]
From = Annotated[str, typer.Option("--from", metavar="DAY", help="first day: YYYY-MM-DD, or yesterday")]
To = Annotated[str, typer.Option("--to", metavar="DAY", help="last day")]
Methods = Annotated[list[str], typer.Option("--method", help="a method to run; the first is compared with the others")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable output")]
QUIET, JSON_LOGS = "--quiet", "--json-logs"
Quiet = Annotated[bool, typer.Option(QUIET, help="no progress, only results and errors")]
JsonLogs = Annotated[
    bool, typer.Option(JSON_LOGS, help="progress and errors as JSON, one object per line on standard error")
]
ModelName = Annotated[str, typer.Option("--model", help="a model_id, as listed by `ecdctr report`")]


_SILENT: ContextVar[bool] = ContextVar("silent", default=False)  # whether no progress is shown


@app.callback()
def everywhere(quiet: Quiet = False, json_logs: JsonLogs = False) -> None:
    """E-CDCTR on Spark: tri-level transfer learning for click-through-rate prediction."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Makes a function a command that also accepts the options of `everywhere`. They decide how an error in any other
    option is reported, so it is `main` that reads them."""
    own, common = (inspect.signature(each, eval_str=True).parameters for each in (function, everywhere))

    @functools.wraps(function)
    def called(**options: Any) -> None:
        function(**{name: options[name] for name in own})

    both = {**own, **common}
    called.__signature__ = inspect.Signature(list(both.values()))  # type: ignore[attr-defined]
    called.__annotations__ = {name: each.annotation for name, each in both.items()}
    return app.command()(called)


# A wrong or missing option. Typer raises its own copy of click's exceptions, which have no public name of their own.
_USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_OPEN: list[ExitStack] = []  # until the process ends
_INTERRUPTED = 130  # what typer returns then, from 0.12 on; before, it raised Abort


def script() -> None:
    """The `ecdctr` script: as `main`, in a process that ends with the command. What threads of libraries write between
    the command's last line and the end of the process goes to the log too: of a JVM that was killed, PySpark's."""
    with ExitStack() as stack:
        code = _ended(sys.argv[1:], stack.enter_context(standard_error(_log())))
        _OPEN.append(stack.pop_all())
    if code:
        sys.exit(code)


def main(arguments: Sequence[str]) -> None:
    """Runs a command and returns when it is done. Otherwise exits, with the error on one line, by --json-logs as the
    last event: 1 for a bug or a failed training, 2 for what the user can act on, 130 if interrupted. A Databricks task
    fails on any exit, even with 0."""
    # Libraries write there what they please: of a JVM that was killed, two dozen lines.
    with standard_error(_log()) as errors:
        code = _ended(list(arguments), errors)
    if code:
        sys.exit(code)


def _log() -> Path:
    """The log of this process. Exits with 2 where no folder for temporary files can be written to."""
    try:
        return failures.log_file()
    except OSError as error:
        Console(stderr=True).print(f"error: no temporary files can be written: {error}: set TMPDIR", soft_wrap=True)
        sys.exit(2)


def _ended(given: list[str], errors: TextIO) -> int:
    """Runs a command, and says there what failed; returns the exit code."""
    started = time.monotonic()
    named = next((argument for argument in given if argument in _names()), None)
    with ExitStack() as stack:
        stack.enter_context(_ended_in_order())
        _SILENT.set(QUIET in given or JSON_LOGS in given)
        if JSON_LOGS in given:
            stack.enter_context(as_json(errors))
        event("command started", command=named)
        said, code = _outcome(given)
        seconds = round(time.monotonic() - started, 3)
        if said:
            line = without_secrets(" ".join(said.split()))
            event("command failed", command=named, seconds=seconds, error=line, exit_code=code)
            if JSON_LOGS not in given:
                Console(file=errors).print(f"error: {line}", style="red", markup=False, soft_wrap=True)
        else:
            event("command finished", command=named, seconds=seconds, exit_code=code)
    return code


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """A command that a scheduler ends (SIGTERM) ends as by Ctrl-C, and its ranks and temporary files with it."""
    if threading.current_thread() is not threading.main_thread():  # only that one may ask for it: a notebook's does not
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _outcome(arguments: list[str]) -> tuple[str, int]:
    """Runs a command; returns what failed, or nothing, and the exit code."""
    try:
        code = app(args=arguments, standalone_mode=False) or 0
    except ConfigError as error:
        return str(error), 2
    except _USAGE as error:
        return error.format_message(), 2
    except typer.Abort:
        code = _INTERRUPTED
    except Exception as error:
        line, code = failures.explain(error)
        return f"{line} (log: {failures.keep(error)})", code
    return ("interrupted; the same command resumes" if code == _INTERRUPTED else ""), code


def _names() -> set[str]:
    """The names of all commands."""
    return {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}


def _console() -> Console:
    """Where progress is shown."""
    return Console(quiet=_SILENT.get())


@command
def doctor() -> None:
    """Check Java, package versions, Horovod and memory, and say how to fix what is wrong."""
    raise typer.Exit(health.report(health.environment_findings()))


@command
def demo(
    data: Annotated[str, typer.Option(help="an overlay in conf/ that names demo days")] = "movielens",
    set_: Sets = [],  # noqa: B006
) -> None:
    """Run the whole system on real ratings, day by day, up to an HTML report."""
    config = load_config([data], set_)
    if config.demo is None:
        raise ConfigError(f"--data {data}: conf/{data}.yaml names no demo days; use movielens")
    _run(config, config.demo.first, config.demo.last)
    _report(config)


@command
def init(
    folders: Annotated[
        Optional[list[str]], typer.Argument(help="folders of your logs, or one that holds them all")
    ] = None,  # click 8.0 knows no other default of several arguments
    impressions: Annotated[Optional[str], typer.Option(help="the folder of impressions")] = None,
    ads: Annotated[Optional[str], typer.Option(help="that of impressions of ads, if they are logged apart")] = None,
    clicks: Annotated[Optional[str], typer.Option(help="that of clicks")] = None,
    users: Annotated[Optional[str], typer.Option(help="that of users")] = None,
    items: Annotated[Optional[str], typer.Option(help="that of items")] = None,
    output: Annotated[Path, typer.Option(help="the configuration to write")] = Path("mine.yaml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file if it is there")] = False,
) -> None:
    """Propose a configuration for your own logs, with the reason of each guess."""
    from ecdctr_spark.pipeline.initial import initialise

    named = {"impressions": impressions, "ads": ads, "clicks": clicks, "users": users, "items": items}
    given = {log: folder for log, folder in named.items() if folder is not None}
    for line in initialise(folders or [], given, output, overwrite):
        typer.echo(line)


@command
def ingest(from_: From, to: To, conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Read raw logs into the canonical tables; bad rows go to quarantine."""
    from ecdctr_spark.methods.planning import Ingest

    config = load_config(conf, set_)
    step = Ingest(*_days(config, from_, to))
    _say_terms(config.source.kind)
    counts = _counted(_store(config), config, step)
    typer.echo(
        f"{counts.rows_read:,} rows read = {counts.rows_kept:,} kept + {counts.duplicates:,} duplicates"
        f" + {counts.quarantined:,} quarantined"
    )
    if counts.outside_asked or counts.outside_any:
        typer.echo(
            f"{counts.outside_asked:,} more rows outside the days asked, {counts.outside_any:,} outside any day"
            " (before calendar.first_day)"
        )


@command
def build(from_: From, to: To, conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Build samples from the canonical tables."""
    from ecdctr_spark.methods.planning import Build

    config = load_config(conf, set_)
    step = Build(*_days(config, from_, to))
    _say_terms(config.source.kind)
    counts = _counted(_there(config), config, step)
    typer.echo(f"{counts.rows_read:,} labelled impressions, {counts.rows_kept:,} samples")


@command
def check(
    from_: Annotated[Optional[str], typer.Option("--from", metavar="DAY", help="first day")] = None,
    to: Annotated[Optional[str], typer.Option("--to", metavar="DAY", help="last day")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="look at the raw logs instead: what an ingest would read")] = False,
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Check the health of built days, exit code 2 if one is outside its limits; or (--raw) look at the raw logs."""
    config = load_config(conf, set_)
    if raw:
        _check_raw(config, [option for option, day in (("--from", from_), ("--to", to)) if day])
        return
    if from_ is None or to is None:
        raise ConfigError("check: give --from and --to, or --raw to look at the raw logs")
    from ecdctr_spark.pipeline import checking

    first, last = _days(config, from_, to)
    store = _there(config)
    with _lease(config, "check"):
        broken = checking.check(store, config, first, last)
    found = checking.summary(store, first, last)
    _show_rows(found)
    checking.refuse(broken)
    typer.echo(checking.verdict(found))


@command
def plan(
    from_: From,
    to: To,
    method: Methods = [],  # noqa: B006
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show what is due or due again, from which inputs, and which models were trained on days that have changed."""
    from ecdctr_spark.pipeline import registry
    from ecdctr_spark.pipeline.plans import plan as planned

    config = load_config(conf, set_, method)
    root, (first, last) = _root(config), _days(config, from_, to)
    existing = registry.existing(root, config)
    steps = planned(registry.planner(config, existing), config, first, last, existing)
    restated = registry.outdated(root, config)
    if as_json:
        rows = [{"step": type(step).__name__.lower(), **asdict(step)} for step in steps]
        outdated = [model._asdict() for model in restated]
        typer.echo(json.dumps({"steps": rows, "outdated": outdated}, default=_plain, indent=2))
        return
    for step in steps:
        typer.echo(f"{step}{registry.why_again(step, existing, restated)}")
    if not steps:
        typer.echo("nothing is due")
    for model in restated:
        typer.echo(f"outdated {model.model_id}: {', '.join(map(str, model.days))} changed since it was trained")


@command
def run(
    from_: From,
    to: To,
    method: Methods = [],  # noqa: B006
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Ingest, build, train, predict and evaluate everything that is due."""
    config = load_config(conf, set_, method)
    _run(config, *_days(config, from_, to))


@command
def train(
    level: Annotated[str, typer.Option(help="a level of the configured methods")],
    date: Annotated[str, typer.Option(metavar="DAY", help="the last day that the model sees")],
    ranks: Annotated[Optional[str], typer.Option(metavar="N", help="number of ranks, or auto")] = None,
    launcher: Annotated[Optional[str], typer.Option(help="inline, local or spark")] = None,
    method: Methods = [],  # noqa: B006
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Train one model on samples that are built already."""
    from ecdctr_spark.pipeline.plans import training_of
    from ecdctr_spark.pipeline.run import train_alone

    chosen = [f"training.ranks={ranks}"] if ranks is not None else []
    chosen += [f"training.launcher={launcher}"] if launcher is not None else []
    config = load_config(conf, [*set_, *chosen], method)
    training = training_of(_root(config), config, level, _day(config, "--date", date))
    store = _there(config)
    with _lease(config, "train"):
        row = train_alone(store, config, training, _console())
    typer.echo(f"{row['model_id']}: {row['rows']:,} rows, published under {config.storage.root}")


@command
def metrics(
    method: Methods = [],  # noqa: B006
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show one row per evaluated (date, method, domain), and one over all days."""
    config = load_config(conf, set_, method)
    rows = _metrics(config)
    if not rows:
        raise ConfigError("nothing has been evaluated yet: run `ecdctr run` first")
    if as_json:
        typer.echo(json.dumps(rows, default=str, indent=2))
    else:
        _show_rows(rows)


@command
def export(
    model: ModelName,
    output: Annotated[str, typer.Option(help="folder to write")],
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Export a model for serving: whole tables, a signature, no optimiser state."""
    from ecdctr_spark.pipeline.registry import registered_checkpoint
    from ecdctr_spark.serving.export import export as write

    root = _root(load_config(conf, set_))
    write(registered_checkpoint(root, model), Root.parse(output))
    typer.echo(f"{model}: exported to {output}")


@command
def score(
    model: ModelName,
    input_: Annotated[str, typer.Option("--input", help="samples, a Delta table or Parquet files")],
    output: Annotated[str, typer.Option(help="Parquet folder to write")],
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Predict the click probability of samples with a registered model."""
    from ecdctr_spark.pipeline.registry import registered_checkpoint
    from ecdctr_spark.pipeline.steps import is_exported, score_samples

    config = load_config(conf, set_)
    store = _there(config)
    registered_checkpoint(store.root, model)
    with nullcontext() if is_exported(store.root, model) else _lease(config, "score"):
        rows = score_samples(store, model, Root.parse(input_), Root.parse(output))
    typer.echo(f"{model}: {rows:,} predictions in {output}")


@command
def forget(
    user: Annotated[str, typer.Option(help="a user_id of the logs")],
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Remove a user from every table and snapshot, past versions included."""
    from ecdctr_spark.pipeline.care import forget as erase

    config = load_config(conf, set_)
    store = _there(config)
    with _lease(config, "forget"):
        for table, rows in erase(store, config, user).items():
            typer.echo(f"{table:<14} {rows:,} rows removed")
    typer.echo("Raw logs are not changed: remove the user there too, or the next ingest of those days restores it.")


@command
def jobs(to: Annotated[str, typer.Option(help="folder to write")]) -> None:
    """Copy the entry points for spark-submit, one per command, out of the installed package."""
    from ecdctr_spark.shipped import folder

    target = Root.parse(to)
    scripts = [entry for entry in folder("jobs").iterdir() if entry.name.endswith(".py")]
    for script in scripts:
        target.at(script.name).write_bytes(script.read_bytes())
    typer.echo(f"{len(scripts)} jobs in {target}: spark-submit {target.at('run.py')} --conf FILE --from DAY --to DAY")


@command
def tidy(conf: Confs = [], set_: Sets = []) -> None:  # noqa: B006
    """Compact the tables. Remove old models (storage.keep_models_days), and files that no model and no version of the
    last days (storage.keep_days) needs."""
    config = load_config(conf, set_)
    store = _there(config)
    with _lease(config, "tidy"):
        _tidy(store, config)


@command
def report(
    method: Methods = [],  # noqa: B006
    conf: Confs = [],  # noqa: B006
    set_: Sets = [],  # noqa: B006
) -> None:
    """Write the HTML report of the trained models and their results."""
    _report(load_config(conf, set_, method))


def _root(config: Config) -> Root:
    root = Root.parse(config.storage.root)
    if root.size() is not None:  # everything below a file would seem to be missing
        raise ConfigError(f"storage.root: {root} is a file: expected a folder")
    return root


def _store(config: Config) -> Any:
    """The tables; a root that is not there is made. Imported here: it takes a second, and bad arguments must be
    reported at once."""
    from ecdctr_spark.tables.opening import open_store

    return open_store(config)


def _there(config: Config) -> Any:
    """The tables, for a command that works on what others have made: a misspelt root is not made."""
    root = _root(config)
    if not root.exists():
        raise ConfigError(f"storage.root: {root}: no such folder: correct it, or begin with `ecdctr run`")
    return _store(config)


def _lease(config: Config, command: str) -> AbstractContextManager[None]:
    """For a command that writes under the root."""
    return lease(_root(config), command, config.storage.wait_minutes)


def _run(config: Config, first: dt.date, last: dt.date) -> None:
    from ecdctr_spark.pipeline.plans import check_source

    check_source(config)  # before a session is started
    from ecdctr_spark.pipeline.care import tidy_is_due
    from ecdctr_spark.pipeline.run import run as carry_out

    _say_terms(config.source.kind)
    store = _store(config)
    with _lease(config, "run"):
        carry_out(store, config, first, last, _console())
        if tidy_is_due(_root(config), config):
            _tidy(store, config)
        _name_tables(store, config)


def _tidy(store: Any, config: Config) -> None:
    from ecdctr_spark.pipeline.care import tidy as clean

    tidied = clean(store, config)
    typer.echo(f"{tidied.files:,} files of old versions and {tidied.models:,} old models removed")


def _name_tables(store: Any, config: Config) -> None:
    if config.storage.catalog:
        from ecdctr_spark.tables.catalog import register

        for name in register(store, config.storage.catalog, config.features):
            typer.echo(f"table {name}")


def _check_raw(config: Config, days: Sequence[str]) -> None:
    from ecdctr_spark.pipeline.raw_check import lines_of, looked_at

    if days:
        raise ConfigError(f"check: --raw looks at all days of the raw logs; leave out {' and '.join(days)}")
    _say_terms(config.source.kind)
    for looked in looked_at(_store(config).spark, config):
        typer.echo("\n".join(lines_of(looked, config.calendar.first_day)))


def _counted(store: Any, config: Config, step: Any) -> Any:
    from ecdctr_spark.pipeline.run import run_counted

    with _lease(config, type(step).__name__.lower()):
        counts = run_counted(store, config, step, _console())
        _name_tables(store, config)
    return counts


def _metrics(config: Config) -> list[dict[str, Any]]:
    from ecdctr_spark.pipeline import registry
    from ecdctr_spark.pipeline.plans import method_identities

    return registry.read_metrics(_root(config), method_identities(registry.planner(config)))


def _report(config: Config) -> None:
    from ecdctr_spark.pipeline.reporting import is_ready, track_report, write_report

    store = _there(config)
    with nullcontext() if is_ready(store, config) else _lease(config, "report"):
        place, headline = write_report(store, config)
    track_report(_root(config), config, place, typer.echo)
    _show_rows([row for row in _metrics(config) if row["date"] == "all"])
    typer.echo(headline)
    size = place.size() or 0
    typer.echo(f"report: {place} ({size / 1000:,.0f} kB)")
    event("report written", place=place, bytes=size)


def _say_terms(kind: str) -> None:
    from ecdctr_spark.sources import TERMS

    if kind in TERMS and not _SILENT.get():
        typer.echo(TERMS[kind])


def _days(config: Config, from_: str, to: str) -> tuple[dt.date, dt.date]:
    """The first and the last day asked for."""
    from ecdctr_spark.pipeline.plans import in_order

    first, last = _day(config, "--from", from_), _day(config, "--to", to)
    in_order(first, last)
    return first, last


def _day(config: Config, option: str, text: str) -> dt.date:
    today = dt.datetime.now(ZoneInfo(config.calendar.timezone)).date()
    if text == "yesterday":
        return today - dt.timedelta(days=1)
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected a day as YYYY-MM-DD, or yesterday") from error
    if day > today:
        raise ConfigError(f"{option} {text}: expected no day after today, {today} in {config.calendar.timezone}")
    return day


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, Settings) else str(value)


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
    script()
