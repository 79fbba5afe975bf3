"""Samples to predictions on Spark, by the exported models: what is measured is what is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.serving.predictor import Predictor, inputs, read_signature
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import PREDICTIONS

_KEPT = ("event_id", "user", "item", "domain", "ds")


class Export(NamedTuple):
    """An export and the method that it predicts for, as sent to the workers. The hash of its weights distinguishes it
    from another export that replaced it."""

    method: str
    root: Root
    sha256: str


_open: dict[Export, Predictor] = {}  # the models that this worker process keeps for its next samples


def score(samples: DataFrame, exports: Mapping[str, Root]) -> DataFrame:
    """PREDICTIONS rows: one per sample and method. `exports` maps a method's identity (or any other name for the
    result) to the export of its model, at a place that the workers can open too. Without a label column labels are
    null, without a weight column weights are 1.

    Raises ConfigError that names a missing column. A null in a feature fails the job.
    """
    signatures = {method: read_signature(root) for method, root in exports.items()}
    chosen = [Export(method, exports[method], signature.weights.sha256) for method, signature in signatures.items()]
    features = {name for signature in signatures.values() for name in inputs(signature.spec.contract)}
    missing = sorted({*_KEPT, *features}.difference(samples.columns))
    if missing:
        raise ConfigError(f"samples: no columns {', '.join(missing)}; build them with the models' configuration")
    label = F.col("label") if "label" in samples.columns else F.lit(None)
    weight = F.col("weight") if "weight" in samples.columns else F.lit(1.0)
    known = (label.cast("int").alias("label"), weight.cast("double").alias("weight"))
    read = samples.select(*_KEPT, *sorted(features), *known)
    return read.mapInArrow(partial(_scored, chosen), PREDICTIONS.columns)


def _scored(exports: list[Export], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs on a worker. Workers share a machine, so each uses one thread."""
    torch.set_num_threads(1)
    for stale in _open.keys() - exports:
        del _open[stale]
    for export in exports:
        if export not in _open:
            _open[export] = Predictor.open(export.root)
    for batch in batches:
        for export in exports:
            yield _predictions(batch, export.method, _open[export])


def _predictions(batch: pa.RecordBatch, method: str, predictor: Predictor) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in inputs(predictor.signature.spec.contract)}
    for name, column in columns.items():
        if column.null_count:
            raise ConfigError(f"samples: column {name} holds a null, which no sample does: build the samples again")
    predicted = predictor.predict({name: column.to_numpy(False) for name, column in columns.items()})
    made = {
        "event_id": batch.column("event_id"),
        "user_id": batch.column("user"),
        "item_id": batch.column("item"),
        "method": pa.repeat(method, len(batch)),
        "model_id": pa.repeat(predictor.signature.model_id, len(batch)),
        "domain": batch.column("domain"),
        "label": batch.column("label"),
        "weight": batch.column("weight"),
        "prediction": pa.array(predicted, pa.float32()).cast(pa.float64()),
        "ds": batch.column("ds"),
    }
    return pa.RecordBatch.from_arrays(list(made.values()), list(made))
