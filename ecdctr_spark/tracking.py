"""The only import of mlflow: one MLflow run per trained model, with its parameters, lineage and metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

# MLflow by default asks a server that is away seven times, for minutes.
_SHOWN = 300  # characters of its message
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


def check(config: Config) -> None:
    """Raises ConfigError where the configured MLflow server does not answer: before a model is trained."""
    if config.tracking.uri is not None:
        with _answering(config.tracking.uri):
            mlflow.MlflowClient(config.tracking.uri).search_experiments(max_results=1)


def log_model(config: Config, model: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Logs a registered model (a row of the registry) and its training figures to the configured MLflow server.

    Without a `tracking.uri` a SQLite file serves (see sqlite). Raises ConfigError where MLflow does not answer.
    """
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    uri = config.tracking.uri or sqlite(Root.parse(config.storage.root))
    with _answering(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(config.tracking.experiment)
        with mlflow.start_run(run_name=model["model_id"]):
            parents = ", ".join(model["parents"])
            mlflow.set_tags({"level": model["level"], "date": str(model["date"]), "parents": parents})
            mlflow.log_params({f"version.{table}": version for table, version in model["tables"].items()})
            mlflow.log_params({name: model[name] for name in ("data_set", "code_version", "ranks")})
            mlflow.log_metrics(dict(metrics))


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Bounds how long MLflow tries. Raises ConfigError that names the server where it fails."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        yield
    except MlflowException as error:
        said = " ".join(str(error).split())[:_SHOWN]
        raise ConfigError(
            f"tracking.uri: MLflow at {uri} failed: {said}; start it, or set tracking.uri to null"
        ) from error


def sqlite(root: Root) -> str:
    """A file under the root; SQLite needs a local disk, so where the root is none, in .ecdctr of the working folder."""
    folder = root.path or Path(".ecdctr").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"
