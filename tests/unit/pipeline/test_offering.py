"""The model that serves next is offered to the model registry once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods.planning import Training
from ecdctr_spark.pipeline import offering, registry
from ecdctr_spark.storage import Root
from tests.unit.pipeline.test_registry import DAY, RESULT

RESEEDED = "methods.reseeded={like: ecdctr, levels: {actr: {train: {seed: 9}}}}"


class Tracker:
    """Remembers the models that were offered."""

    def __init__(self) -> None:
        self.offered: list[str] = []

    def record(self, model_id: str, record: Any) -> None:
        assert record.served == ("exports/" + model_id, "ctr")
        self.offered.append(model_id)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setattr(offering, "exported", lambda root, model_id: f"exports/{model_id}")
    monkeypatch.setattr(offering, "served", lambda export, name: (export, name))
    monkeypatch.setattr(offering, "Record", lambda time, served: type("Record", (), {"served": served}))
    return Root.parse(tmp_path)


def configured(*settings: str) -> Config:
    return load_config([], ["calendar.first_day=2024-01-29", "tracking.registered_model=ctr", *settings])


def trained(root: Root, config: Config, date: dt.date, method: int = 0, digest: str = "weights") -> Training:
    """A serving model of a date, registered with all that it is made from."""
    plans = registry.planner(config)
    made: dict[str, Training] = {}
    left = [plans.training(plans.methods[method], "actr", date)]
    asked = left[0]
    while left:
        each = left.pop()
        made[each.model_id] = each
        needed = [parent for parent in each.parents if parent.model_id not in made]
        left += [plans.training(plans.methods[method], parent.level, parent.date) for parent in needed]
    for each in made.values():
        registry.register(root, config, each, registry.Origin({}, "inputs", digest), RESULT)
    return asked


def offered(root: Root, config: Config) -> list[str]:
    tracker: Any = Tracker()
    offering.offer(root, config, tracker)
    found: list[str] = tracker.offered
    return found


def test_the_newest_model_is_offered_once_whichever_run_trained_it(root: Root) -> None:
    config = configured()
    assert offered(root, config) == []
    trained(root, config, DAY - dt.timedelta(days=1))
    model = trained(root, config, DAY)
    assert offered(root, config) == [model.model_id]
    assert offered(root, config) == []


def test_a_model_that_was_trained_again_is_offered_again_where_its_weights_changed(root: Root) -> None:
    config = configured()
    model = trained(root, config, DAY)
    assert offered(root, config) == [model.model_id]
    trained(root, config, DAY)
    assert offered(root, config) == []
    trained(root, config, DAY, digest="other weights")
    assert offered(root, config) == [model.model_id]


def test_a_model_of_another_method_is_not_offered(root: Root) -> None:
    config = configured(RESEEDED, "evaluation.methods=[ecdctr,reseeded]")
    model = trained(root, config, DAY - dt.timedelta(days=1))
    trained(root, config, DAY, method=1)
    assert offered(root, config) == [model.model_id]


def test_a_job_of_other_clocks_or_without_a_name_offers_nothing(root: Root) -> None:
    for settings in (["training.clocks=[week]"], ["tracking.registered_model=null"]):
        config = configured(*settings)
        trained(root, configured(), DAY)
        assert offered(root, config) == []
