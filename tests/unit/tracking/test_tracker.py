"""A training is one MLflow run, whatever happens to it and to the server."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from werkzeug.serving import make_server

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sha256
from ecdctr_spark.tracking import tracker as tracking
from ecdctr_spark.tracking.spool import DeltaInput, Record, Served, Spool, now
from ecdctr_spark.tracking.tracker import Tracker, sqlite
from tests.configured import FIRST_DAY

MODEL = "actr-2024-03-05-00000000"
AWAY = "http://me:secret@127.0.0.1:9"
LONG = 300.0  # seconds; more than any machine needs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite store. To make one takes seconds, so all tests share it, each with its own storage root."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def config(store: str, tmp_path: Path) -> Config:
    return at(store, tmp_path)


def at(uri: str, root: Path, *settings: str) -> Config:
    """A configuration that tracks at this server. Its experiment is named after the root: each test has its own."""
    named = f"tracking.experiment={root.name}"
    return load_config([], [FIRST_DAY, f"storage.root={root}", f"tracking.uri={uri}", named, *settings])


def opened(**params: str) -> Record:
    return Record(time=now(), params=params)


def train(config: Config, said: list[str], **params: str) -> None:
    """A command that trains the model: two points, then its figures."""
    tracker = Tracker(config, said.append)
    with tracker.training(MODEL, opened(level="actr", **params)):
        for step, loss in ((100, 0.5), (200, 0.25)):
            tracker.record(MODEL, Record(time=now(), step=step, metrics={"loss": loss, "rows": step}))
    tracker.close(LONG)


def runs(store: str, config: Config) -> list[Run]:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def history(store: str, run: Run, metric: str) -> list[tuple[int, float]]:
    points = MlflowClient(store).get_metric_history(run.info.run_id, metric)
    return [(point.step, point.value) for point in points]


def test_a_training_is_one_run_with_what_it_was_made_of(config: Config, store: str, tmp_path: Path) -> None:
    said: list[str] = []
    tracker = Tracker(config, said.append)
    with tracker.training(MODEL, Record(time=now(), params={"level": "actr"}, tags={"parents": "cpm-1"})):
        tables = (DeltaInput(name="samples", place="/store/samples", version=7),)
        tracker.record(MODEL, Record(time=now(), step=300, metrics={"loss": 0.5}, inputs=tables))
    tracker.close(LONG)
    (run,) = runs(store, config)
    assert (run.info.run_name, run.info.status) == (MODEL, "FINISHED")
    assert run.info.start_time <= run.info.end_time
    assert run.data.params == {"level": "actr"}
    assert run.data.tags["parents"] == "cpm-1"
    assert history(store, run, "loss") == [(300, 0.5)]
    (samples,) = (data_set.dataset for data_set in run.inputs.dataset_inputs)
    assert (samples.name, samples.source_type) == ("samples", "delta_table")
    assert json.loads(samples.source) == {"path": "/store/samples", "delta_table_version": 7}
    assert [file.path for file in MlflowClient(store).list_artifacts(run.info.run_id)] == ["learning_curve.svg"]
    assert run.info.artifact_uri.startswith((tmp_path / "mlflow-artifacts").as_uri())  # not in the working directory
    assert said == []


def test_points_and_the_machine_s_figures_arrive_while_it_trains(
    config: Config, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_TICK_SECONDS", 0.05)
    tracker = Tracker(config, pytest.fail)
    with tracker.training(MODEL, opened()) as progress:
        deadline, calls = time.monotonic() + LONG, 0
        while not (found := runs(store, config)) or "system/cpu_utilization_percentage" not in found[0].data.metrics:
            calls += 1
            progress(calls, 1 / calls)
            time.sleep(0.05)
            assert time.monotonic() < deadline
        assert found[0].info.status == "RUNNING"
        assert found[0].data.metrics.keys() >= {"loss", "rows", "system/system_memory_usage_megabytes"}
    tracker.close(LONG)
    (run,) = runs(store, config)
    assert 0 < len(history(store, run, "loss")) < calls / 5  # at most one a second


def test_days_that_are_judged_are_of_the_run_of_the_model(config: Config, store: str) -> None:
    train(config, [])
    tracker = Tracker(config, pytest.fail)
    tracker.record(MODEL, Record(time=now(), step=20240306, metrics={"next_day.gauc": 0.75}))
    tracker.record("old-2024-01-01-00000000", Record(time=now(), step=20240102, metrics={"next_day.gauc": 0.5}))
    tracker.close(LONG)
    by_name = {run.info.run_name: run for run in runs(store, config)}
    assert by_name.keys() == {MODEL, "old-2024-01-01-00000000"}  # one was trained before it was tracked
    assert {run.info.status for run in by_name.values()} == {"FINISHED"}
    assert history(store, by_name[MODEL], "next_day.gauc") == [(20240306, 0.75)]


def test_a_failed_training_is_marked_without_its_secrets(config: Config, store: str) -> None:
    tracker = Tracker(config, pytest.fail)
    with pytest.raises(RuntimeError), tracker.training(MODEL, opened()):
        raise RuntimeError("rank 1 failed: postgresql://me:secret@host/db?password=secret")
    with pytest.raises(KeyboardInterrupt), tracker.training("tpm-2024-01-31-00000000", opened()):
        raise KeyboardInterrupt
    tracker.close(LONG)
    by_name = {run.info.run_name: run for run in runs(store, config)}
    assert by_name[MODEL].info.status == "FAILED"
    assert by_name[MODEL].data.tags["error"].endswith("postgresql://***@host/db?password=***")
    assert by_name["tpm-2024-01-31-00000000"].info.status == "KILLED"


KILLED = f"""
import sys, time
from pathlib import Path
from tests.unit.tracking.test_tracker import MODEL, at, opened
from ecdctr_spark.tracking.tracker import Tracker
with Tracker(at(sys.argv[1], Path(sys.argv[2])), print).training(MODEL, opened(ranks="2")):
    print("training", flush=True)
    time.sleep({LONG})
"""


def test_a_killed_training_is_marked_by_the_next_command_and_resumed_as_the_same_run(
    config: Config, store: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, AWAY, str(tmp_path)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert killed.stdout and killed.stdout.readline() == "training\n"
        Tracker(config, pytest.fail).close(LONG)
        assert runs(store, config) == []  # it is under way: its own process hands it over
    finally:
        killed.kill()
        killed.communicate()
    said: list[str] = []
    Tracker(config, said.append).close(LONG)
    (run,) = runs(store, config)
    assert run.info.status == "KILLED" and run.data.params == {"ranks": "2"}
    assert len(said) == 1 and "1 records of earlier commands were handed over" in said[0]
    train(config, [], ranks="1")
    (resumed,) = runs(store, config)
    assert (resumed.info.run_id, resumed.info.status) == (run.info.run_id, "FINISHED")
    assert resumed.data.params == {"ranks": "2", "level": "actr"}  # a parameter cannot change
    assert resumed.data.tags["resumed.ranks"] == "1"


@contextmanager
def serving(store: str, port: int, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """A real MLflow server, in a thread."""
    from mlflow import server

    monkeypatch.setenv(server.BACKEND_STORE_URI_ENV_VAR, store)
    monkeypatch.setenv(server.ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
    monkeypatch.setenv(server.ARTIFACTS_DESTINATION_ENV_VAR, str(folder / "artifacts"))
    monkeypatch.setenv(server.SERVE_ARTIFACTS_ENV_VAR, "true")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    listening = make_server("127.0.0.1", port, server.app, threaded=True)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield
    finally:  # of a failed test too, or the process would never end
        listening.shutdown()
        thread.join()


def test_a_server_that_is_away_gets_everything_once_when_it_is_back(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, said, spool = at(f"http://me:secret@127.0.0.1:{port}", tmp_path), [], tmp_path / "tracking" / "records"
    for _ in range(2):
        train(config, said)
    assert [line.split(": ")[0] for line in said] == [f"MLflow at http://***@127.0.0.1:{port}"] * 2
    assert "4 records are kept in" in said[0] and "8 records are kept in" in said[1]
    assert "secret" not in "".join([*said, *(file.read_text() for file in spool.iterdir())])
    shutil.copytree(spool, tmp_path / "kept")
    once = [(100, 0.5), (200, 0.25), (100, 0.5), (200, 0.25)]  # of two trainings
    with serving(store, port, monkeypatch, tmp_path):
        Tracker(config, said.append).close(LONG)
        assert list(spool.iterdir()) == [] and "8 records of earlier commands were handed over" in said[2]
        (run,) = runs(store, config)
        assert run.info.status == "FINISHED" and history(store, run, "loss") == once
        assert [file.name for file in (tmp_path / "artifacts").rglob("*.*")] == ["learning_curve.svg"]
        for again in (tmp_path / "kept").iterdir():  # as if it was killed before it could remove them
            shutil.copy(again, spool)
        Tracker(config, said.append).close(LONG)
    (run,) = runs(store, config)
    assert history(store, run, "loss") == once and list(spool.iterdir()) == []


def test_a_segment_that_the_run_has_is_not_handed_over_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecdctr_spark.tracking.server import Server  # takes seconds to import

    spool = Spool(Root.parse(tmp_path))
    spool.append(MODEL, [Record(time=now(), params={"level": "actr"}, metrics={"loss": 0.5})])
    (segment,) = spool.segments()
    for again in (False, True):
        server = Server(store, tmp_path.name, spool.identity())
        server.find()
        if again:
            monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, **__: pytest.fail("handed over twice"))
        server.hand_over(segment, segment.records())


def test_a_server_that_comes_back_while_it_trains_gets_everything_by_its_end(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_RETRY_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tracker = Tracker(at(f"http://127.0.0.1:{port}", tmp_path, "tracking.system_metrics=false"), pytest.fail)
    with tracker.training(MODEL, opened()):
        deadline = time.monotonic() + LONG
        while not tracker._delivery.refused:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with serving(store, port, monkeypatch, tmp_path):
        tracker.close(LONG)
    assert [run.info.status for run in runs(store, at(store, tmp_path))] == ["FINISHED"]


def test_a_server_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = at(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, "tracking.system_metrics=false")
        said: list[str] = []
        tracker = Tracker(config, said.append)
        started = time.monotonic()
        with tracker.training(MODEL, opened()) as progress:
            progress(1, 0.5)
        trained = time.monotonic() - started
        tracker.close(patience=0.1)
        assert trained < 5
        assert len(said) == 1 and "2 records are kept" in said[0]


def test_what_the_server_refuses_stays_and_the_rest_is_handed_over(config: Config, store: str) -> None:
    said: list[str] = []
    tracker = Tracker(config, said.append)
    tracker.record("bad-2024-01-01-00000000", Record(time=now(), params={"no*name": "1"}))
    tracker.record(MODEL, Record(time=now(), params={"level": "actr"}))
    tracker.close(LONG)
    assert len(said) == 1 and "no*name" in said[0] and "1 records are kept" in said[0]
    assert {run.info.run_name: run.data.params for run in runs(store, config)}[MODEL] == {"level": "actr"}


def test_a_file_that_was_removed_is_said_and_does_not_block_the_rest(
    config: Config, store: str, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("<p>")
    files = {"report.html": str(tmp_path / "report.html"), "gone.html": str(tmp_path / "gone.html")}
    tracker = Tracker(config, pytest.fail)
    tracker.record(MODEL, Record(time=now(), artifacts=files))
    tracker.close(LONG)
    (run,) = runs(store, config)
    assert [file.path for file in MlflowClient(store).list_artifacts(run.info.run_id)] == ["report.html"]
    assert run.data.tags["missing.gone.html"].endswith("gone.html was removed before it was handed over")


def test_a_model_that_is_not_as_it_was_offered_is_not_registered(config: Config, store: str, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.safetensors").write_bytes(b"damaged since")
    offered = Served(
        registered_model="ctr", place=str(tmp_path / "export"), sha256=sha256(b"as offered"), loader="x", columns=()
    )
    tracker = Tracker(config, pytest.fail)
    tracker.record(MODEL, Record(time=now(), served=offered))
    tracker.close(LONG)
    (run,) = runs(store, config)
    assert run.data.tags["changed.ctr"].endswith("export is not as it was when it was offered")
    assert MlflowClient(store).search_model_versions("name = 'ctr'") == []


@pytest.mark.parametrize(("error", "waits"), [(KeyboardInterrupt, False), (ValueError, True)])
def test_a_command_that_is_interrupted_does_not_wait_for_a_model_that_is_being_registered(
    config: Config, store: str, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], waits: bool
) -> None:
    for name in ("_PATIENCE_SECONDS", "_STOPPED_SECONDS", "_TICK_SECONDS"):
        monkeypatch.setattr(tracking, name, 0.1)
    begun, finish, ended = threading.Event(), threading.Event(), threading.Event()

    def hand_over(*given: object) -> None:
        begun.set()
        finish.wait(1.0 if waits else LONG)
        ended.set()

    monkeypatch.setattr("ecdctr_spark.tracking.server.Server.hand_over", hand_over)
    offered = Served(registered_model="ctr", place="export", sha256="", loader="x", columns=())
    said: list[str] = []
    with pytest.raises(error), tracking.open_tracker(config, said.append) as tracker:
        tracker.record(MODEL, Record(time=now(), served=offered))
        assert begun.wait(LONG)
        raise error
    assert ended.is_set() is waits
    assert waits or not said  # the line that ends an interrupted command is its only one
    finish.set()


def test_two_roots_on_one_server_are_kept_apart(store: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        train(at(store, tmp_path / name, "tracking.experiment=shared"), [])
    assert len(runs(store, at(store, tmp_path, "tracking.experiment=shared"))) == 2


def test_a_missing_psutil_is_said_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    said: list[str] = []
    tracker = Tracker(config, said.append)
    for model in (MODEL, "tpm-2024-01-31-00000000"):
        with tracker.training(model, opened()):
            pass
    tracker.close(LONG)
    assert said == ["tracking.system_metrics: psutil is not installed, so there are none: install it, or set false"]


def test_nothing_to_hand_over_imports_no_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys; from ecdctr_spark.pipeline import run; from ecdctr_spark.tracking.tracker import open_tracker;"
        "from ecdctr_spark.config import load_config\n"
        f"with open_tracker(load_config([], ['{FIRST_DAY}', 'storage.root={tmp_path}']), print): pass\n"
        "print('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("uri=htp://me:secret@host", r"tracking\.uri: htp://\*\*\*@host: unknown scheme htp; expected one of http"),
        ("registry_uri=s3://bucket", "registry_uri: s3://bucket: unknown scheme s3"),
        ("registered_model=a/b", "registered_model"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config([], [FIRST_DAY, f"tracking.{setting}"])


def test_unity_catalog_takes_names_of_three_parts() -> None:
    unity = [FIRST_DAY, "tracking.registry_uri=databricks-uc"]
    assert load_config([], [*unity, "tracking.registered_model=main.ads.ctr"]).tracking.registered_model
    with pytest.raises(ConfigError, match=r"registered_model is ctr: .* catalog\.schema\.model"):
        load_config([], [*unity, "tracking.registered_model=ctr"])


def test_the_file_lies_under_a_local_root_and_in_the_working_folder_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite(Root.parse(tmp_path / "place")) == f"sqlite:///{tmp_path}/place/mlflow.db"
    assert sqlite(Root.parse("s3://bucket/root")) == f"sqlite:///{tmp_path}/.ecdctr/mlflow.db"
    assert (tmp_path / ".ecdctr").is_dir()
