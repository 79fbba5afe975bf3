"""Offers the model that serves next to the model registry of MLflow, once: the ledger says what was offered."""

from __future__ import annotations

from ecdctr_spark.config import Config
from ecdctr_spark.methods.planning import Model, standing
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline.steps import exported
from ecdctr_spark.serving.pyfunc import served
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import STEPS
from ecdctr_spark.tables.small import read_rows
from ecdctr_spark.tracking.spool import Record, now
from ecdctr_spark.tracking.tracker import Tracker

_OFFERED = "offer"  # of the ledger


def offer(root: Root, config: Config, tracker: Tracker) -> None:
    """Offers the newest model of the first method's serving level under tracking.registered_model, unless it was
    offered with these weights before, by this run or by one that was killed since. A job of other clocks
    (training.clocks) leaves that to the one that trains the level."""
    name, method = config.tracking.registered_model, config.chosen[0]
    if name is None or method.levels[method.serves].clock.every not in config.training.clocks:
        return
    newest = _newest(root, config)
    if newest is None:
        return
    digest = registry.model_named(root, newest.model_id)["digest"]
    entry = {"step": _OFFERED, "subject": name, "detail": newest.model_id, "inputs": digest}
    if not any(row.items() >= entry.items() for row in read_rows(root, STEPS)):
        tracker.record(newest.model_id, Record(time=now(), served=served(exported(root, newest.model_id), name)))
        registry.record(root, [{**entry, "seconds": 0.0}])


def _newest(root: Root, config: Config) -> Model | None:
    """The first method's newest model of its serving level, whichever parents it has."""
    method, registered = config.chosen[0], registry.existing(root, config).registered
    made = standing([method], config.data_set_id, registered, clocks=())
    dates = [date for _, level, date in made if level == method.serves]
    return made[method.name, method.serves, max(dates)] if dates else None
