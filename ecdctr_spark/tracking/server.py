"""The only import of mlflow: hands the spool's records over to the configured server. Works with MLflow 2.13 and 3.

MLflow's global state (its tracking URI, its active run) is that of the user's notebook and is left as it was.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

import ecdctr_spark
from ecdctr_spark.events import without_secrets
from ecdctr_spark.storage import Root, scratch, stamp
from ecdctr_spark.tracking.curve import learning_curve
from ecdctr_spark.tracking.spool import Column, DeltaInput, Record, Segment, Served

# MLflow by default asks a server that is away seven times, for minutes, and prints the URI of each run, secrets too.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST = 500  # characters of a parameter's value that every server takes
_BATCH = 500  # metrics at a time; MLflow takes 1,000
_MODEL, _ROOT = "ecdctr.model_id", "ecdctr.root"  # tags that find the run of a model
_HANDED_OVER = "ecdctr.handed_over"  # a tag: the last segment whose records the run has
_REGISTERED = "ecdctr.registered"  # a tag: the registered model and the hash of the export that is its newest version
_NEEDS = ("msgspec", "numpy", "pandas", "pyarrow", "safetensors", "torch")  # of an exported model


@dataclass
class _Run:
    """What is known of a run: its id and the URI of its artefacts, its parameters and two of its tags."""

    run_id: str
    artifacts: str
    params: dict[str, str]
    last: str
    registered: str


@dataclass
class Server:
    """An MLflow server and an experiment there. `root` is the identity of the spool; new experiments keep their
    artefacts at `artifacts`, None: where the server wants them."""

    uri: str
    experiment: str
    root: str
    artifacts: str | None = None
    registry_uri: str | None = None
    _client: MlflowClient = field(init=False, repr=False)
    _experiment_id: str = field(init=False, repr=False, default="")
    _runs: dict[str, _Run] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.ERROR)

    def find(self) -> None:
        """Finds the experiment, or creates it. Raises whatever MLflow raises where the server does not answer."""
        self._client = MlflowClient(self.uri, self.registry_uri)
        found = self._client.get_experiment_by_name(self.experiment)
        self._experiment_id = (
            found.experiment_id if found else self._client.create_experiment(self.experiment, self.artifacts)
        )

    def hand_over(self, segment: Segment, records: Sequence[Record]) -> None:
        """Brings the records of a segment to the run of its model, once: a tag of the run names the last segment that
        it has. Raises whatever MLflow raises."""
        run = self._run(segment.model, records[0])
        if run.last == segment.name:
            return
        done = RunTag(_HANDED_OVER, segment.name)
        metrics = _metrics(records)
        while len(metrics) > _BATCH:
            self._client.log_batch(run.run_id, metrics=metrics[:_BATCH])
            metrics = metrics[_BATCH:]
        new, tags = _described(run, records)
        eventful = [record for record in records if record.eventful]
        self._client.log_batch(run.run_id, metrics, _params(new), [*tags, *([] if eventful else [done])])
        for record in eventful:
            self._set_status(run, record)
        with self._as_default():
            for record in eventful:
                self._keep_files(run, record)
        if eventful:
            self._client.set_tag(run.run_id, done.key, done.value)
        run.params.update(new)
        run.last = segment.name

    def _run(self, model: str, first: Record) -> _Run:
        """The run of a model: the one that there is, whoever trained it, else a new one."""
        if model not in self._runs:
            found = self._found(model)
            if not found:
                self._create(model, first)
                found = self._found(model)
                for other in found[1:]:  # of another process that created it at the same time
                    self._client.delete_run(other.info.run_id)
            info, data = found[0].info, found[0].data
            last = data.tags.get(_HANDED_OVER, "")
            registered = data.tags.get(_REGISTERED, "")
            self._runs[model] = _Run(info.run_id, info.artifact_uri, dict(data.params), last, registered)
        return self._runs[model]

    def _found(self, model: str) -> list[Run]:
        same = f"tags.`{_MODEL}` = '{model}' and tags.`{_ROOT}` = '{self.root}'"
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        return list(self._client.search_runs([self._experiment_id], same, order_by=order, max_results=10))

    def _create(self, model: str, first: Record) -> None:
        tags = {_MODEL: model, _ROOT: self.root}
        run = self._client.create_run(self._experiment_id, start_time=first.time, tags=tags, run_name=model)
        if first.status is None:  # of a model that was trained before it was tracked
            self._client.set_terminated(run.info.run_id, "FINISHED", first.time)

    def _set_status(self, run: _Run, record: Record) -> None:
        if record.status == "RUNNING":
            self._client.update_run(run.run_id, status="RUNNING")
        elif record.status:
            self._client.set_terminated(run.run_id, record.status, record.time)

    @contextmanager
    def _as_default(self) -> Iterator[None]:
        """Makes this server MLflow's global one for a moment: MLflow 2 uploads files through no other."""
        before = mlflow.get_tracking_uri()
        if before == self.uri:
            yield
            return
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)

    def _keep_files(self, run: _Run, record: Record) -> None:
        if record.status not in (None, "RUNNING"):
            self._draw(run.run_id)
        if record.inputs:
            self._client.log_inputs(run.run_id, [_data_set(table) for table in record.inputs])
        for name, place in record.artifacts.items():
            if self._is_there(run, name, place):
                with scratch() as folder:
                    Root.parse(place).fetch(folder / name)
                    self._client.log_artifact(run.run_id, str(folder / name))
        if record.served and self._is_there(run, record.served.registered_model, record.served.place):
            self._register(run, record.served)

    def _is_there(self, run: _Run, name: str, place: str) -> bool:
        """Whether a file is where its record says; where it was removed meanwhile, a tag of the run says so."""
        if Root.parse(place).exists():
            return True
        self._client.set_tag(
            run.run_id, f"missing.{name}", f"{without_secrets(place)} was removed before it was handed over"
        )
        return False

    def _draw(self, run_id: str) -> None:
        """The learning curve of all attempts, from what the run has by now."""
        history = {name: self._client.get_metric_history(run_id, name) for name in ("loss", "validation_loss")}
        lines = {name: [(point.step, point.value) for point in points] for name, points in history.items() if points}
        if lines:
            self._client.log_text(run_id, learning_curve(lines), "learning_curve.svg")

    def _register(self, run: _Run, served: Served) -> None:
        """The export as a pyfunc model of the run, and as a version of the registered model, each once. Where it is not
        as it was when it was offered, replaced or damaged, a tag of the run says so instead."""
        name, version = served.registered_model, f"{served.registered_model} {served.sha256}"
        if run.registered == version:
            return
        source = f"{run.artifacts}/model-{served.sha256[:8]}"
        with scratch() as folder:
            Root.parse(served.place).fetch(folder / "export")
            if all(stamp(file).sha256 != served.sha256 for file in (folder / "export").iterdir()):
                changed = f"{without_secrets(served.place)} is not as it was when it was offered"
                self._client.set_tag(run.run_id, f"changed.{name}", changed)
                return
            save_pyfunc(folder / "model", folder / "export", served)
            self._client.log_artifacts(run.run_id, str(folder / "model"), source.rsplit("/", 1)[1])
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise
        if all(known.source != source for known in self._client.search_model_versions(f"name = '{name}'")):
            self._client.create_model_version(name, source, run.run_id)
        self._client.set_tag(run.run_id, _REGISTERED, version)
        run.registered = version


def save_pyfunc(path: Path, export: Path, served: Served) -> None:
    """Writes an export as an MLflow model with its signature, an example, this package and what that needs. Nothing in
    it is pickled: MLflow calls `_load_pyfunc` of the loader with the path of the export."""
    needs = [f"{name}=={importlib.metadata.version(name)}" for name in _NEEDS]
    with scratch() as folder:
        code = folder / "ecdctr_spark"
        Root.parse(Path(ecdctr_spark.__file__).parent).fetch(code)
        for bytecode in code.rglob("*.pyc"):
            bytecode.unlink()
        mlflow.pyfunc.save_model(
            path=str(path),
            loader_module=served.loader,
            data_path=str(export),
            code_paths=[str(code)],
            pip_requirements=needs,
            signature=_signature(served.columns),
            input_example=_example(served.columns),
        )


def system_monitors() -> list[Any]:
    """MLflow's monitors of this machine: processor and memory, disk, network and, where there are any, GPUs. Raises
    ImportError without psutil."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (ImportError, RuntimeError):  # no library for them, or no GPU
        return monitors
    return monitors


def sampled(monitors: Sequence[Any]) -> dict[str, float]:
    """The figures of the monitors now, named as MLflow names them."""
    figures = {}
    for monitor in monitors:
        monitor.collect_metrics()
        figures.update({f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()})
        monitor.clear_metrics()
    return figures


def _metrics(records: Sequence[Record]) -> list[Metric]:
    return [
        Metric(name, value, record.time, record.step) for record in records for name, value in record.metrics.items()
    ]


def _described(run: _Run, records: Sequence[Record]) -> tuple[dict[str, str], list[RunTag]]:
    """The parameters that the run does not have yet, and its new tags. A parameter of a run cannot change: where a
    training was resumed with another one, a tag says so."""
    given = {name: value[:_LONGEST] for record in records for name, value in record.params.items()}
    new = {name: value for name, value in given.items() if name not in run.params}
    tags = {name: value for record in records for name, value in record.tags.items()}
    tags |= {f"resumed.{name}": value for name, value in given.items() if run.params.get(name, value) != value}
    return new, [RunTag(*tag) for tag in tags.items()]


def _params(given: Mapping[str, str]) -> list[Param]:
    return [Param(*param) for param in given.items()]


def _data_set(table: DeltaInput) -> DatasetInput:
    """A Delta table at a version, as mlflow.data describes one, without reading it."""
    source = {"path": without_secrets(table.place), "delta_table_version": table.version}
    return DatasetInput(Dataset(table.name, f"version {table.version}", "delta_table", json.dumps(source)), [])


# The type of a column for MLflow and for pyarrow.
_TYPES = {
    "integer": (DataType.integer, pa.int32()),
    "float": (DataType.float, pa.float32()),
    "binary": (DataType.binary, pa.binary()),
}


def _signature(columns: Sequence[Column]) -> ModelSignature:
    inputs = Schema([ColSpec(_TYPES[column.kind][0], column.name) for column in columns])
    return ModelSignature(inputs, Schema([ColSpec(DataType.float, "prediction")]))


def _example(columns: Sequence[Column]) -> Any:
    """One row, as a pandas frame."""
    values = {column.name: bytes(column.example) if column.kind == "binary" else column.example for column in columns}
    row = {column.name: pa.array([values[column.name]], _TYPES[column.kind][1]) for column in columns}
    return pa.table(row).to_pandas()
