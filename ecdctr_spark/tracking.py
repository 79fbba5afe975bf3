"""The only import of mlflow: one MLflow run per trained model, with its parameters, lineage and metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from ecdctr_spark.config import Config
from ecdctr_spark.storage import Root


def log_model(config: Config, model: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Logs a registered model (a row of the registry) and its training figures to the configured MLflow server.

    Without a `tracking.uri` a SQLite file serves (see sqlite).
    """
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(config.tracking.uri or sqlite(Root.parse(config.storage.root)))
    mlflow.set_experiment(config.tracking.experiment)
    with mlflow.start_run(run_name=model["model_id"]):
        mlflow.set_tags({"level": model["level"], "date": str(model["date"]), "parents": ", ".join(model["parents"])})
        mlflow.log_params({f"version.{table}": version for table, version in model["tables"].items()})
        mlflow.log_params({name: model[name] for name in ("data_set", "code_version", "ranks")})
        mlflow.log_metrics(dict(metrics))


def sqlite(root: Root) -> str:
    """A file under the root; SQLite needs a local disk, so where the root is none, in .ecdctr of the working folder."""
    folder = root.path or Path(".ecdctr").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"
