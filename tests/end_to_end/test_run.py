"""The whole system on a small slice, by its commands: logs in, next-day ad predictions out."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from ecdctr_spark.cli import main
from ecdctr_spark.config import load_config
from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root, _sweep, scratch
from ecdctr_spark.tables import opening
from ecdctr_spark.tables.schemas import CALIBRATION, COMPARISONS, METRICS, MODELS, PREDICTIONS
from ecdctr_spark.tables.small import read_rows, replace_rows
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tracking.tracker import Tracker, sqlite
from tests.chaos.damage import flipped, kinds
from tests.miniature import PREDICTED, USERS

pytestmark = pytest.mark.end_to_end

REGISTERED = ["--set", "tracking.registered_model=ctr"]
DAYS = ["--from", str(PREDICTED[0]), "--to", str(PREDICTED[1])]
FLIPS = 40
FIELDS = {"auc", "gauc", "gauc_coverage", "logloss", "pcoc", "impressions", "clicks"}


class Output(NamedTuple):
    """The exit code of a command and what it printed."""

    code: int
    out: str
    err: str


def ecdctr(command: str, overlay: Path, root: Path, *arguments: str) -> Output:
    """Runs one command as the shell would, but on the Spark session of the tests."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([command, *arguments, *settings(overlay, root)])
        except SystemExit as end:
            code = end.code
    return Output(int(str(code)), out.getvalue(), err.getvalue())


def settings(overlay: Path, root: Path) -> list[str]:
    return ["--conf", str(overlay), "--set", f"storage.root={root}", "--set", "spark.driver_memory=2g"]


def named(method: str) -> str:
    """The name in a method's identity, which covers the place of its logs."""
    return method.rsplit("-", 1)[0]


def metrics(overlay: Path, root: Path) -> list[dict[str, Any]]:
    shown = ecdctr("metrics", overlay, root, "--json")
    assert shown.code == 0, shown.err
    return json.loads(shown.out)


@pytest.fixture(scope="module")
def one_day(spark: SparkSession, overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage root of a run up to the first predicted day, two Horovod ranks."""
    root = tmp_path_factory.mktemp("one-day")
    done = ecdctr("run", overlay, root, "--from", str(PREDICTED[0]), "--to", str(PREDICTED[0]))
    assert done.code == 0, done.out + done.err
    return root


@pytest.fixture(scope="module")
def second_day(one_day: Path, overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Output]]:
    """The storage root of uninterrupted runs over the second predicted day too, a job for each clock, and what they
    printed for machines."""
    root = tmp_path_factory.mktemp("finished") / "root"
    shutil.copytree(one_day, root)
    done = [
        ecdctr("run", overlay, root, *DAYS, "--set", f"training.clocks=[{clock}]", *REGISTERED, "--json-logs")
        for clock in ("month", "week", "day")
    ]
    assert [each.code for each in done] == [0, 0, 0], "".join(each.out + each.err for each in done)
    return root, done


@pytest.fixture(scope="module")
def finished(second_day: tuple[Path, list[Output]]) -> Path:
    """The storage root of a finished run over both predicted days."""
    return second_day[0]


def test_each_predicted_day_has_every_metric_of_both_methods(finished: Path, overlay: Path) -> None:
    rows = metrics(overlay, finished)
    by_day = {(row["date"], named(row["method"]), row["domain"]) for row in rows}
    days = ["2024-03-05", "2024-03-06", "all"]
    assert by_day == {(day, method, "ad") for day in days for method in ("ecdctr", "ads_only")}
    for row in rows:
        assert row.keys() >= FIELDS
        assert row["impressions"] == (80 if row["date"] == "all" else 40)
        assert 0 < row["gauc_coverage"] <= 1
        assert 0 <= row["gauc"] <= 1


def test_a_run_reports_each_step_to_machines_with_its_rows_and_seconds(second_day: tuple[Path, list[Output]]) -> None:
    steps: set[str] = set()
    for done in second_day[1]:
        events = [json.loads(line) for line in done.err.splitlines()]
        assert done.out == ""
        assert (events[0]["event"], events[-1]["event"]) == ("command started", "command finished")
        assert events[-1]["exit_code"] == 0
        finished = [event for event in events if event["event"] == "step finished"]
        assert all(event["rows"] > 0 and event["seconds"] > 0 for event in finished)
        assert [event["number"] for event in finished] == list(range(1, len(finished) + 1))
        steps.update(event["step"].split()[0] for event in finished)
    assert steps == {"ingest", "build", "train", "predict"}


def test_a_run_that_was_killed_before_it_compared_the_methods_does_so_when_it_is_run_again(
    finished: Path, overlay: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished, root)
    for table, where in ((METRICS, "date is null"), (COMPARISONS, "true"), (CALIBRATION, "true")):
        replace_rows(Root.parse(root), table, [], where)
    again = ecdctr("run", overlay, root, *DAYS)
    assert again.code == 0 and "nothing is due" in again.out
    assert metrics(overlay, root) == metrics(overlay, finished)
    for table in (COMPARISONS, CALIBRATION):
        rows, before = (read_rows(Root.parse(place), table) for place in (root, finished))
        assert sorted(map(repr, rows)) == sorted(map(repr, before)) != []
    replace_rows(Root.parse(root), METRICS, [], "date is null")
    assert ecdctr("report", overlay, root).code == 0
    assert metrics(overlay, root) == metrics(overlay, finished)


def test_rows_read_are_kept_duplicate_or_quarantined(finished: Path, overlay: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished, root)
    again = ecdctr("ingest", overlay, root, *DAYS)
    found = re.search(r"(\d[\d,]*) rows read = (\S+) kept \+ (\S+) duplicates \+ (\S+) quarantined", again.out)
    assert found, again.out + again.err
    read, kept, duplicates, quarantined = (int(number.replace(",", "")) for number in found.groups())
    assert read == kept + duplicates + quarantined
    planned = ecdctr("plan", overlay, root, *DAYS)
    assert re.findall(r"^(ingest|build|train|predict)", planned.out, re.MULTILINE) == [
        "build"
    ]  # by the new rows, if any


def test_a_run_of_all_clocks_finds_nothing_to_do_after_a_job_for_each(finished: Path, overlay: Path) -> None:
    before = len(mlflow_runs(finished, overlay))
    again = ecdctr("run", overlay, finished, *DAYS)
    assert again.code == 0
    assert "nothing is due" in again.out
    assert "train" not in again.out
    assert len(mlflow_runs(finished, overlay)) == before


def begun(root: Path, overlay: Path, temporary: Path, done: str) -> subprocess.Popen[str]:
    """A run in processes of its own when it says that a step is `done`, with `temporary` for temporary files."""
    command = [sys.executable, "-m", "ecdctr_spark.cli", "run", *DAYS, *settings(overlay, root)]
    environment, pipe = {**os.environ, "TMPDIR": str(temporary)}, subprocess.PIPE
    run = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=environment)
    assert run.stdout is not None
    assert any(done in line for line in run.stdout)
    return run


def gone(temporary: Path) -> bool:
    """Whether the processes that name a folder in their command (the JVM, the launcher, ranks) end within 30 s."""
    for _ in range(60):
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        if not any(str(temporary) in word for command in commands for word in command):
            return True
        time.sleep(0.5)
    return False


def test_ended_and_killed_in_the_middle_and_run_again_it_ends_the_same(
    one_day: Path, finished: Path, overlay: Path, tmp_path: Path
) -> None:
    root, temporary = tmp_path / "root", Path(tempfile.mkdtemp())
    shutil.copytree(one_day, root)
    ended = begun(root, overlay, temporary, done="ingest")
    ended.terminate()  # what a scheduler sends first
    assert ended.communicate()[1].endswith("error: interrupted; the same command resumes\n")
    assert ended.returncode == 130
    assert gone(temporary)
    assert not list(temporary.iterdir())
    killed = begun(root, overlay, temporary, done="build")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert gone(temporary)
    assert any(file.is_dir() for file in temporary.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        _sweep.cache_clear()
        with scratch() as folder:
            assert [file for file in temporary.iterdir() if file.is_dir()] == [folder]
    again = ecdctr("run", overlay, root, *DAYS)
    assert again.code == 0, again.out + again.err
    assert "build" not in again.out  # finished steps are not repeated
    assert metrics(overlay, root) == metrics(overlay, finished)
    shutil.rmtree(temporary)


def test_no_model_that_predicts_a_day_saw_anything_of_it_through_any_level(
    spark: SparkSession, one_day: Path, overlay: Path, logs: Path, tmp_path: Path
) -> None:
    day, root = PREDICTED[0], tmp_path / "root"
    seen = plant_canaries(logs, tmp_path / "logs", day)
    folders = [f"source.{name}={tmp_path / 'logs' / name}" for name in ("impressions", "clicks")]
    there = [argument for folder in folders for argument in ("--set", folder)]
    done = ecdctr("run", overlay, root, "--from", str(day), "--to", str(day), *there)
    assert done.code == 0, done.out + done.err
    models = weights(one_day, before=str(day))
    assert {name.split("-")[0] for name in models} == {"tpm", "cpm", "actr", "ads_only"}
    assert weights(root, before=str(day)) == models
    expected = predictions(spark, one_day, seen)
    assert len(expected) == 2 * len(seen)
    # Rows that are scored together are rounded together: rows of another day change the last digit.
    assert predictions(spark, root, seen) == pytest.approx(expected, abs=1e-6)
    assert weights(root, before="2100-01-01") != weights(one_day, before="2100-01-01")  # the next day, they are seen


def plant_canaries(logs: Path, to: Path, day: dt.date) -> set[str]:
    """The same logs, but on the day every user likes an item that no one knew, and clicks on all that the day before
    showed. The day's ads that were there before."""
    shutil.copytree(logs, to)
    with (logs / "impressions" / "part.csv").open(encoding="utf-8", newline="") as file:
        shown = list(csv.DictReader(file))
    canaries = [
        (f"canary-{place}-{domain}", f"{day}T00:00:00", domain, f"user-{place % USERS}", "canary")
        for place in range(200)
        for domain in ("natural", "ad")
    ]
    before = str(day - dt.timedelta(days=1))
    late = [row["event_id"] for row in shown if row["event_time"].startswith(before)]
    with (to / "impressions" / "part.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(canaries)
    with (to / "clicks" / "part.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((event, f"{day}T00:00:00") for event in [*late, *(row[0] for row in canaries)])
    return {row["event_id"] for row in shown if row["event_time"].startswith(str(day)) and row["domain"] == "ad"}


def weights(root: Path, before: str) -> dict[str, list[str]]:
    """Hashes of the tensors of each model that saw days before the one given only, by its name and date."""
    folders = {path.name.rsplit("-", 1)[0]: path for path in (root / "models").iterdir()}
    return {
        name: [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.glob("*.safetensors"))]
        for name, path in folders.items()
        if name.split("-", 1)[1] < before
    }


def predictions(spark: SparkSession, root: Path, events: set[str]) -> dict[tuple[str, str], float]:
    rows = (
        Store(Session.of(spark), Root.parse(root))
        .read(PREDICTIONS)
        .select("event_id", "method", "prediction")
        .collect()
    )
    return {(row.event_id, named(row.method)): row.prediction for row in rows if row.event_id in events}


def test_the_report_is_one_page_that_needs_no_network(finished: Path, overlay: Path) -> None:
    secret = ["--set", "tracking.registry_uri=postgresql://me:secret@host/db"]
    shown = ecdctr("report", overlay, finished, *secret)
    assert shown.code == 0
    (report,) = (finished / "reports").iterdir()
    assert f"report: {report} ({report.stat().st_size / 1000:,.0f} kB)" in shown.out
    page = report.read_text(encoding="utf-8")
    assert not re.search(r"<script|(src|href)\s*=", page)
    assert "postgresql://***@host/db" in page and "secret" not in page
    for subject in ("GAUC", "coverage", "Calibration", "tpm-2024-02-29", "cpm-2024-03-04", "actr-2024-03-06"):
        assert subject in page


def test_commands_that_read_small_tables_or_train_start_no_spark(
    finished: Path, overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished, root)
    monkeypatch.setattr(opening, "spark_session", lambda *_: pytest.fail("Spark was started"))
    alone = ["--level", "cpm", "--date", "2024-03-04", "--set", "training.ranks=auto"]
    for command, arguments in {"plan": DAYS, "metrics": [], "report": [], "train": alone}.items():
        done = ecdctr(command, overlay, root, *arguments)
        assert done.code == 0, f"{command}: {done.out}{done.err}"
    assert "loss" in done.out and ", 1 rank" in done.out and "exists: it is trained again and replaced" in done.out
    assert {row["model_id"][:3]: row["ranks"] for row in read_rows(Root.parse(root), MODELS)}["cpm"] == 1


def test_each_model_is_one_mlflow_run_with_its_judged_days_and_the_report(finished: Path, overlay: Path) -> None:
    assert ecdctr("report", overlay, finished).code == 0
    found = mlflow_runs(finished, overlay)
    models = {row["model_id"]: row for row in read_rows(Root.parse(finished), MODELS)}
    assert sorted(run.info.run_name for run in found) == sorted(models)
    for run in found:
        model, row = run.info.run_name, models[run.info.run_name]
        assert run.info.status == "FINISHED"
        assert (run.data.params["level"], run.data.params["training.ranks"]) == (row["level"], "2")
        assert run.data.metrics["rows"] == row["rows"] and run.data.metrics["loss"] > 0
        assert run.data.tags.get("parents", "") == ", ".join(row["parents"])
        read = {data_set.dataset.name: data_set.dataset.source for data_set in run.inputs.dataset_inputs}
        assert {name: json.loads(source)["delta_table_version"] for name, source in read.items()} == row["tables"]
        assert all((Path(json.loads(source)["path"]) / "_delta_log").is_dir() for source in read.values()), model
    gaucs = {row["model_id"]: row["gauc"] for row in metrics(overlay, finished) if row["date"] != "all"}
    judged = {run.info.run_name: run.data.metrics.get("next_day.gauc") for run in found}
    assert {model: gauc for model, gauc in judged.items() if gauc is not None} == gaucs
    newest = next(run for run in found if run.info.run_name.startswith("actr-2024-03-05"))
    files = {path.name for path in Path(newest.info.artifact_uri.removeprefix("file://")).iterdir()}
    assert files == {"learning_curve.svg", "report.html"}


def test_the_model_that_serves_next_is_the_newest_registered_one(finished: Path, overlay: Path) -> None:
    names = {run.info.run_id: run.info.run_name for run in mlflow_runs(finished, overlay)}
    (version,) = MlflowClient(sqlite(Root.parse(finished))).search_model_versions("name = 'ctr'")
    assert names[version.run_id].startswith("actr-2024-03-06")


def test_a_flipped_bit_is_found_or_changes_nothing(finished: Path, spark: SparkSession, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "root")
    done = flipped(kinds(root, spark), FLIPS)
    assert [fault for flips in done for fault in flips.unseen] == []
    assert sum(flips.found for flips in done) > FLIPS / 4


def test_what_a_removed_table_held_is_made_again_by_the_commands_that_the_errors_name(
    finished: Path, overlay: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(finished, tmp_path / "root")
    assert planned(overlay, root) == []
    for table, due in {"predictions": ["predict", "predict"], "samples": ["build", "predict", "predict"]}.items():
        remove_table(root, table)
        assert planned(overlay, root) == due
    for table in ("labelled", "daily_counts", "daily_clicks", "vocabulary", "content"):
        remove_table(root, table)
    rows = [row for row in read_rows(Root.parse(root), MODELS) if row["level"] == "actr"]
    model = root / "models" / max(rows, key=lambda row: row["date"])["model_id"]
    shutil.rmtree(model)
    assert "train" in planned(overlay, root)
    assert ecdctr("run", overlay, root, *DAYS).code == 0
    assert model.is_dir()
    remove_table(root, "impressions")
    refused = ecdctr("run", overlay, root, *DAYS)
    advice = re.search(r"impressions: no longer holds .* `ecdctr ingest (--from) (\S+) (--to) (\S+)`", refused.err)
    assert refused.code == 2 and advice, refused.err
    assert ecdctr("ingest", overlay, root, *advice.group(1, 2, 3, 4)).code == 0
    assert ecdctr("run", overlay, root, *DAYS).code == 0
    assert metrics(overlay, root) == metrics(overlay, finished)
    digests = [{row["model_id"]: row["digest"] for row in read_rows(Root.parse(at), MODELS)} for at in (root, finished)]
    assert digests[0] == digests[1]


def planned(overlay: Path, root: Path) -> list[str]:
    """The kinds of the steps that are due."""
    done = ecdctr("plan", overlay, root, *DAYS)
    assert done.code == 0, done.err
    return [line.split()[0] for line in done.out.splitlines() if line != "nothing is due"]


def remove_table(root: Path, name: str) -> None:
    (table,) = root.glob(f"**/tables/{name}")
    shutil.rmtree(table)


def mlflow_runs(root: Path, overlay: Path) -> list[Any]:
    """The runs in the SQLite file of a root, once all records are there."""
    Tracker(load_config([overlay], [f"storage.root={root}"]), lambda said: None).close(patience=300)
    client = MlflowClient(sqlite(Root.parse(root)))
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def test_an_exported_model_scores_samples(finished: Path, overlay: Path, tmp_path: Path) -> None:
    model = next(
        row["model_id"] for row in metrics(overlay, finished) if row["model_id"] and row["model_id"].startswith("actr")
    )
    exported = ecdctr("export", overlay, finished, "--model", model, "--output", str(tmp_path / "export"))
    assert exported.code == 0, exported.err
    (samples,) = finished.glob("data_set/*/tables/samples")
    arguments = ["--model", model, "--input", str(samples), "--output", str(tmp_path / "scores")]
    scored = ecdctr("score", overlay, finished, *arguments)
    assert scored.code == 0, scored.err
    assert list((tmp_path / "scores").glob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["--set", "trian.batch_size=8"], "unknown key trian; the nearest known one is"),
        (["--set", "source.impressions=/nowhere"], "/nowhere"),
        (["--from", "monday"], "--from monday: expected a day as YYYY-MM-DD"),
        (["--ranks", "2"], "No such option: --ranks"),
        (["--set", "source.kind=file"], "source.kind: no source file; expected one of files, movielens"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    overlay: Path, tmp_path: Path, arguments: list[str], reported: str
) -> None:
    failed = ecdctr("run", overlay, tmp_path, *DAYS, *arguments)
    assert failed.code == 2
    assert reported in failed.err
    assert len(failed.err.strip().splitlines()) == 1
