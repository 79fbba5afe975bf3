"""The registry knows which models exist and the ledger which days are done, each under what it was made from."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods.planning import Training
from ecdctr_spark.pipeline import registry
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import CONTENT, MODELS
from ecdctr_spark.tables.small import append_rows, read_rows, replace_rows
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.version import code_version
from tests.configured import FIRST_DAY

DAY = dt.date(2024, 3, 12)
RESULT = TrainingResult(rows=7, steps=1, seconds=1.5, loss=0.5, waiting=0.0)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.parse(str(tmp_path))


def training(config: Config, level: str = "actr", date: dt.date = DAY) -> Training:
    plans = registry.planner(config)
    return plans.training(plans.methods[0], level, date)


def registered(root: Root, config: Config, level: str = "actr", date: dt.date = DAY, rows: int = 7) -> Training:
    made = training(config, level, date)
    registry.register(root, config, made, {"samples": 3}, RESULT.model_copy(update={"rows": rows}))
    return made


def test_an_empty_root_holds_nothing(root: Root, config: Config) -> None:
    found = registry.existing(root, config)
    assert not found.models and not found.ingested and not found.built and not found.evaluated


def test_a_model_registered_twice_is_one_row(root: Root, config: Config) -> None:
    registered(root, config)
    registered(root, config, rows=2)
    assert [row["rows"] for row in read_rows(root, MODELS)] == [2]


def test_a_model_names_all_that_it_was_made_from(root: Root, config: Config) -> None:
    made = registered(root, config)
    row = registry.model_named(root, made.model_id)
    assert row["tables"] == {"samples": 3}
    assert row["parents"] == [model.model_id for model in made.parents] and len(row["parents"]) == 1
    assert (row["data_set"], row["domains"], row["days"]) == (config.data_set_id, ["ad"], [made.first, DAY])
    assert (row["code_version"], row["ranks"]) == (code_version(), config.training.ranks)
    settings = json.loads(row["settings"])
    assert settings["level"]["train"] == config.methods["ecdctr"].levels["actr"].train.model_dump(mode="json")
    assert settings["sampling"] == config.sampling.model_dump(mode="json")
    assert registry.existing(root, config).models == {made.model_id}


def test_the_ledger_says_which_days_are_done_for_which_logs_and_data_set(root: Root, config: Config) -> None:
    ingest = {"step": "ingest", "subject": config.logs_id, "from_day": DAY, "to_day": DAY + dt.timedelta(days=1)}
    build = {"step": "build", "subject": config.data_set_id, "from_day": DAY, "to_day": DAY}
    others = {**build, "subject": "deadbeef", "to_day": DAY + dt.timedelta(days=9)}
    registry.record(root, [ingest, build, others])
    found = registry.existing(root, config)
    assert found.ingested == {DAY, DAY + dt.timedelta(days=1)}
    assert found.built == {DAY}


@pytest.mark.parametrize(
    ("setting", "ingested", "built"),
    [
        ("calendar.timezone=Asia/Tokyo", False, False),
        ("calendar.first_day=2000-01-02", False, False),
        ("source.folder=elsewhere", False, False),
        ("features.freshness=event", True, False),
        ("features.fields.recent_clicks=null", True, False),
        ("sampling.seed=8", True, False),
        ("training.ranks=8", True, True),
    ],
)
def test_a_setting_that_a_step_depends_on_is_part_of_what_makes_it_done(
    root: Root, config: Config, setting: str, ingested: bool, built: bool
) -> None:
    done = {"from_day": DAY, "to_day": DAY}
    registry.record(root, [{"step": "ingest", "subject": config.logs_id, **done}])
    registry.record(root, [{"step": "build", "subject": config.data_set_id, **done}])
    found = registry.existing(root, load_config([], [FIRST_DAY, setting]))
    assert (bool(found.ingested), bool(found.built)) == (ingested, built)


def test_a_model_of_days_that_were_restated_is_named_and_others_are_not(root: Root, config: Config) -> None:
    natural, ads = registered(root, config, "cpm", dt.date(2024, 3, 11)), registered(root, config)
    content = {"domain": "natural", "ds": natural.first, "rows": 1, "checksum": 1}
    place, now = root.at("data_set", config.data_set_id), dt.datetime.now(dt.timezone.utc)
    replace_rows(place, CONTENT, [{**content, "changed": now - dt.timedelta(hours=1)}], "true")
    assert registry.outdated(root, config) == []
    replace_rows(place, CONTENT, [{**content, "changed": now + dt.timedelta(hours=1)}], "true")
    assert registry.outdated(root, config) == [registry.Outdated(natural.model_id, (natural.first,))]
    append_rows(place, CONTENT, [{**content, "domain": "ad", "ds": DAY, "changed": now + dt.timedelta(hours=1)}])
    assert registry.outdated(root, config)[1] == registry.Outdated(ads.model_id, (DAY,))


def test_an_unknown_model_is_refused_with_the_newest_that_exist(root: Root, config: Config) -> None:
    made = registered(root, config)
    with pytest.raises(ConfigError, match=f"actr-1999.*newest are {made.model_id}"):
        registry.model_named(root, "actr-1999")


@pytest.mark.parametrize(
    "setting", ["calendar.timezone=Asia/Tokyo", "calendar.first_day=2000-01-02", "source.clicks=c", "source.format=csv"]
)
def test_days_ingested_with_other_settings_are_due_again(root: Root, setting: str) -> None:
    day = dt.date(2000, 1, 9)
    config, other = load_config([], [FIRST_DAY]), load_config([], [FIRST_DAY, setting])
    registry.record(root, [{"step": "ingest", "subject": config.logs_id, "from_day": day, "to_day": day}])
    assert registry.existing(root, config).ingested == {day}
    assert registry.existing(root, other).ingested == set()
