"""The registry knows which models exist and the ledger which days are done, each under what it was made from."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods.planning import Prediction, Training
from ecdctr_spark.pipeline import registry
from ecdctr_spark.settings.base import ConfigError, plain
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import CONTENT, ITEMS, METRICS, MODELS, STEPS, VOCABULARY
from ecdctr_spark.tables.small import append_rows, read_rows, replace_rows
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.version import code_version
from tests.configured import FIRST_DAY

DAY = dt.date(2024, 3, 12)
RESULT = TrainingResult(rows=7, steps=1, seconds=1.5, loss=0.5, waiting=0.0, ranks=3)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.parse(str(tmp_path))


def training(config: Config, level: str = "actr", date: dt.date = DAY) -> Training:
    plans = registry.planner(config)
    return plans.training(plans.methods[0], level, date)


def registered(
    root: Root, config: Config, level: str = "actr", date: dt.date = DAY, rows: int = 7, digest: str = "weights"
) -> Training:
    """A model, from the samples and parents that are there, with a folder that holds no weights."""
    made = training(config, level, date)
    registry.checkpoint(root, made.model_id).at("any").write_bytes(b"")
    inputs = registry.inputs(root, config, made.reads, [model.model_id for model in made.parents])
    origin = registry.Origin({"samples": 3}, inputs, digest)
    registry.register(root, config, made, origin, replace(RESULT, rows=rows))
    return made


def content(root: Root, config: Config, domain: str, day: dt.date, checksum: int, hours: float = -1) -> None:
    """The samples of a slice, as they are from that number of hours from now on."""
    changed = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours)
    row = {"domain": domain, "ds": day, "rows": int(checksum > 0), "checksum": checksum, "changed": changed}
    where = f"domain = '{domain}' and ds = date'{day}'"
    replace_rows(root.at("data_set", config.data_set_id), CONTENT, [row], where)


def predicted(root: Root, config: Config, model: Training, rows: int = 3) -> tuple[dt.date, str]:
    """A day predicted by a model: its entry in Existing.evaluated."""
    plans, day = registry.planner(config), model.date + dt.timedelta(days=1)
    method = plans.method_identity(plans.methods[0])
    inputs = registry.inputs(root, config, [("ad", day)], [model.model_id])
    entry = {"step": "predict", "subject": method, "detail": model.model_id, "from_day": day, "to_day": day}
    registry.record(root, [{**entry, "rows_kept": rows, "inputs": inputs}])
    return day, method


def ledger(root: Root, step: str, subject: str, first: dt.date, last: dt.date | None = None) -> None:
    registry.record(root, [{"step": step, "subject": subject, "from_day": first, "to_day": last or first}])


def test_an_empty_root_holds_nothing(root: Root, config: Config) -> None:
    found = registry.existing(root, config)
    assert not found.models and not found.ingested and not found.built and not found.evaluated


def test_a_model_registered_twice_is_one_row(root: Root, config: Config) -> None:
    registered(root, config)
    registered(root, config, rows=2)
    assert [row["rows"] for row in read_rows(root, MODELS)] == [2]


def test_a_model_that_was_removed_is_still_known_to_be_current_and_is_named_as_removed(
    root: Root, config: Config
) -> None:
    made = registered(root, config)
    (row,) = read_rows(root, MODELS)
    replace_rows(root, MODELS, [{**row, "removed": registry.now()}], "true")
    found = registry.existing(root, config)
    assert (found.models, found.removed) == ({made.model_id}, {made.model_id})
    with pytest.raises(ConfigError, match=rf"it was removed on .*`ecdctr train --level actr --date {DAY}`"):
        registry.model_named(root, made.model_id)
    registered(root, config)
    assert registry.model_named(root, made.model_id)["removed"] is None


def test_a_model_whose_folder_is_gone_is_due_again_and_nothing_else_through_it(root: Root, config: Config) -> None:
    lost, kept = (registered(root, config, date=DAY + dt.timedelta(offset)) for offset in range(2))
    predicted(root, config, kept)
    before = registry.existing(root, config)
    registry.checkpoint(root, lost.model_id).remove()
    found = registry.existing(root, config)
    assert (found.models, found.outdated) == ({kept.model_id}, {lost.model_id})
    assert found.evaluated == before.evaluated
    assert "its folder is gone" in registry.why_again(lost, found, registry.outdated(root, config))


def test_a_model_names_all_that_it_was_made_from(root: Root, config: Config) -> None:
    made = registered(root, config)
    row = registry.model_named(root, made.model_id)
    assert row["tables"] == {"samples": 3}
    assert row["parents"] == [model.model_id for model in made.parents] and len(row["parents"]) == 1
    assert (row["data_set"], row["domains"], row["days"]) == (config.data_set_id, ["ad"], [made.first, DAY])
    assert (row["code_version"], row["ranks"]) == (code_version(), RESULT.ranks)
    settings = json.loads(row["settings"])
    assert settings["level"]["train"] == plain(config.methods["ecdctr"].levels["actr"].train)
    assert settings["sampling"] == plain(config.sampling)
    assert (row["inputs"], row["digest"]) == (registry.inputs(root, config, made.reads, row["parents"]), "weights")
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
    natural, ads = training(config, "cpm", dt.date(2024, 3, 11)), training(config)
    content(root, config, "natural", natural.first, 1)
    for level, date in (("cpm", dt.date(2024, 3, 11)), ("actr", dt.date(2024, 3, 11)), ("actr", DAY)):
        registered(root, config, level, date)
    assert registry.outdated(root, config) == []
    content(root, config, "natural", natural.first, 1, hours=1)  # written again, as it was
    assert registry.outdated(root, config) == []
    content(root, config, "natural", natural.first, 2, hours=1)
    assert registry.outdated(root, config) == [registry.Outdated(natural.model_id, (natural.first,))]
    content(root, config, "ad", DAY, 3, hours=1)
    assert registry.outdated(root, config)[1] == registry.Outdated(ads.model_id, (DAY,))


@pytest.mark.parametrize(("restated", "kept"), [("again", 1), ("keep", 3)])
def test_models_of_restated_days_and_those_made_from_them_are_trained_again_unless_they_are_to_be_kept(
    root: Root, restated: str, kept: int
) -> None:
    config = load_config([], [FIRST_DAY, f"training.restated={restated}"])
    monday = dt.date(2024, 3, 11)
    content(root, config, "ad", monday, 1)
    cpm, first, second = (registered(root, config, *of) for of in (("cpm", monday), ("actr", monday), ("actr", DAY)))
    assert registry.existing(root, config).models == {cpm.model_id, first.model_id, second.model_id}
    content(root, config, "ad", monday, 2)
    found = registry.existing(root, config)
    assert len(found.models) == kept and len(found.models | found.outdated) == 3
    registered(root, config, "actr", monday)  # to the same weights
    assert registry.existing(root, config).models == {cpm.model_id, first.model_id, second.model_id}
    registered(root, config, "actr", monday, digest="others")
    assert (second.model_id in registry.existing(root, config).models) == (restated == "keep")


@pytest.mark.parametrize("clocks", ["[day]", "[week]"])
def test_a_job_of_one_clock_judges_no_model_of_another(root: Root, config: Config, clocks: str) -> None:
    limited = load_config([], [FIRST_DAY, f"training.clocks={clocks}"])
    monday = dt.date(2024, 3, 11)
    content(root, config, "natural", monday, 1)
    cpm, actr = registered(root, config, "cpm", monday), registered(root, config, "actr", monday)
    content(root, config, "natural", monday, 2)  # a row came late
    assert registry.existing(root, config).outdated == {cpm.model_id, actr.model_id}
    assert registry.existing(root, limited).outdated == (set() if clocks == "[day]" else {cpm.model_id})
    registered(root, config, "cpm", monday, digest="others")  # its job has trained it again
    assert registry.existing(root, limited).outdated == ({actr.model_id} if clocks == "[day]" else set())


def test_a_job_of_one_clock_plans_on_the_models_of_the_others_that_are_registered(root: Root) -> None:
    settings, monday = ["calendar.first_day=2024-03-08"], dt.date(2024, 3, 11)
    limited = load_config([], [*settings, "training.clocks=[day]"])
    assert not registry.planner(limited, registry.existing(root, limited)).given
    cpm = registered(root, load_config([], settings), "cpm", monday)
    plans = registry.planner(limited, registry.existing(root, limited))
    assert plans.given == {("ecdctr", "cpm", monday): cpm.model}
    assert plans.training(limited.methods["ecdctr"], "actr", monday).parent == cpm.model


@pytest.mark.parametrize("restated", ["again", "keep"])
def test_predictions_are_current_while_their_day_and_model_are_as_they_were(root: Root, restated: str) -> None:
    config = load_config([], [FIRST_DAY, f"training.restated={restated}"])
    ads = DAY + dt.timedelta(days=1)
    content(root, config, "ad", ads, 1)
    model = registered(root, config)
    key = predicted(root, config, model)
    assert registry.existing(root, config).evaluated == {key: model.model_id}
    content(root, config, "ad", ads, 2)  # a click came late
    assert registry.existing(root, config).evaluated == {key: None}
    predicted(root, config, model)
    assert registry.existing(root, config).evaluated == {key: model.model_id}
    registered(root, config, digest="others")
    assert registry.existing(root, config).evaluated == {key: None}


def test_of_several_predictions_of_a_day_the_last_is_there(root: Root, config: Config) -> None:
    one, other = registered(root, config, "cpm", dt.date(2024, 3, 11)), registered(root, config)
    key = predicted(root, config, other)
    day = {"step": "predict", "subject": key[1], "from_day": key[0], "to_day": key[0], "rows_kept": 3}
    registry.record(
        root,
        [{**day, "detail": one.model_id, "inputs": registry.inputs(root, config, [("ad", key[0])], [one.model_id])}],
    )
    assert registry.existing(root, config).evaluated == {key: one.model_id}


def test_a_day_asked_for_without_ads_is_done_with_nothing_to_predict(root: Root, config: Config) -> None:
    ledger(root, "ingest", config.logs_id, DAY)
    ledger(root, "build", config.data_set_id, DAY)
    content(root, config, "natural", DAY, 1)
    found = registry.existing(root, config)
    assert found.void == {("ad", DAY)}
    for _ in range(2):
        registry.record_without_ads(root, ["m-1"], [DAY, DAY + dt.timedelta(days=1)], registry.existing(root, config))
    assert registry.existing(root, config).evaluated == {(DAY, "m-1"): ""}
    assert [row["step"] for row in read_rows(root, STEPS)].count("no ads") == 1
    content(root, config, "ad", DAY, 1)
    assert not registry.existing(root, config).void


def test_days_whose_logs_were_not_there_are_neither_ingested_nor_built(root: Root, config: Config) -> None:
    days = [DAY + dt.timedelta(days=offset) for offset in range(4)]
    registry.record_ingest(root, config, {days[0], days[2]}, days[:3], rows_read=7, seconds=1.5)
    ledger(root, "build", config.data_set_id, days[0], days[2])
    found = registry.existing(root, config)
    assert (found.ingested, found.built, found.empty) == ({days[0], days[2]}, {days[0], days[2]}, {days[1]})
    assert found.void == {(domain, day) for domain in ("natural", "ad") for day in days[:3]}
    (counted,) = (row for row in read_rows(root, STEPS) if row["step"] == "ingest" and row["rows_read"] is not None)
    assert (counted["rows_read"], counted["to_day"]) == (7, days[2])


def test_a_day_whose_logs_come_later_is_built_once_it_was_built_with_them(root: Root, config: Config) -> None:
    registry.record_ingest(root, config, [], [DAY])
    ledger(root, "build", config.data_set_id, DAY)
    registry.record_ingest(root, config, [DAY], [DAY])
    found = registry.existing(root, config)
    assert (found.ingested, found.built, found.empty, found.void) == ({DAY}, set(), set(), set())
    ledger(root, "build", config.data_set_id, DAY)
    assert registry.existing(root, config).built == {DAY}


def test_a_day_whose_logs_have_left_the_source_stays_as_it_is(root: Root, config: Config) -> None:
    ledger(root, "ingest", config.logs_id, DAY)
    ledger(root, "build", config.data_set_id, DAY)
    registry.record_ingest(root, config, [], [DAY])
    found = registry.existing(root, config)
    assert (found.ingested, found.built, found.empty) == ({DAY}, {DAY}, set())


def test_a_day_that_is_known_to_have_no_logs_is_done_with_nothing(root: Root, config: Config) -> None:
    registry.record_ingest(root, config, [], [DAY])
    ledger(root, "build", config.data_set_id, DAY)
    declared = load_config([], [FIRST_DAY, f"check.without_logs=[{DAY}]"])
    assert (declared.logs_id, declared.data_set_id) == (config.logs_id, config.data_set_id)
    found = registry.existing(root, declared)
    assert (found.ingested, found.built, found.empty) == ({DAY}, {DAY}, set())
    assert found.void == {("natural", DAY), ("ad", DAY)}


def test_a_plan_says_why_a_step_is_due_again(root: Root, config: Config) -> None:
    monday = dt.date(2024, 3, 11)
    content(root, config, "ad", monday, 1)
    first, second = [registered(root, config, *of) for of in (("cpm", monday), ("actr", monday), ("actr", DAY))][1:]
    day, method = predicted(root, config, second)
    content(root, config, "ad", monday, 2, hours=1)
    content(root, config, "ad", day, 2, hours=1)
    found, restated = registry.existing(root, config), registry.outdated(root, config)
    assert registry.why_again(first, found, restated) == f", again: {monday} changed since"
    unknown = ", again: what it is made from changed since, or its folder is gone"
    assert registry.why_again(second, found, restated) == unknown
    assert "again" in registry.why_again(Prediction(day, ((method, second.model),)), found, restated)
    assert registry.why_again(Prediction(DAY, ((method, first.model),)), found, restated) == ""
    assert registry.why_again(training(config, date=day), found, restated) == ""


def test_a_root_of_a_version_that_recorded_less_is_continued(root: Root, config: Config) -> None:
    old = {table.name: replace(table, columns=table.columns.split(", inputs string")[0]) for table in (MODELS, STEPS)}
    made = training(config)
    row = {
        "model_id": made.model_id,
        "data_set": config.data_set_id,
        "date": DAY,
        "domains": ["ad"],
        "days": [DAY, DAY],
    }
    registry.checkpoint(root, made.model_id).at("any").write_bytes(b"")
    append_rows(root, old["models"], [{**row, "parents": [], "created": dt.datetime.now(dt.timezone.utc)}])
    day = DAY + dt.timedelta(days=1)
    step = {
        "step": "predict",
        "subject": "m-1",
        "detail": made.model_id,
        "from_day": day,
        "to_day": day,
        "rows_kept": 2,
    }
    append_rows(root, old["steps"], [{**step, "finished": dt.datetime.now(dt.timezone.utc)}])
    found = registry.existing(root, config)
    assert found.models == {made.model_id}
    assert found.evaluated == {(day, "m-1"): None}  # late clicks may have been missed
    registered(root, config, "cpm", dt.date(2024, 3, 11))
    predicted(root, config, made)
    assert len(registry.existing(root, config).models) == 2
    assert {row["inputs"] is None for row in read_rows(root, STEPS)} == {True, False}


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


def test_a_day_that_is_ingested_again_by_hand_is_built_again_and_one_read_again_on_the_way_is_not(
    root: Root, config: Config
) -> None:
    before = DAY - dt.timedelta(days=1)
    registry.record_ingest(root, config, [before, DAY], [before, DAY])
    ledger(root, "build", config.data_set_id, before, DAY)
    registry.record_ingest(root, config, [before, DAY], [DAY])
    found = registry.existing(root, config)
    assert (found.ingested, found.built) == ({before, DAY}, {before})


def remove(table: Root) -> None:
    table.remove()


def put_back(table: Root) -> None:
    """The table as it was one version ago."""
    newest = f"{pinned.version(table):020}"
    for name in table.at("_delta_log").files():
        if newest in name:
            table.at("_delta_log", name).remove()


def remove_and_begin_again(table: Root) -> None:
    remove(table)
    for _ in range(3):
        write(table)


def write(table: Root) -> None:
    """One more commit to a table of the logs, of a data set or of the root."""
    (found,) = (each for each in (ITEMS, VOCABULARY, METRICS) if each.name == table.name)
    append_rows(Root.parse(table.uri.rsplit("/", 2)[0]), found, [{}])


def done(root: Root, config: Config, step: str, subject: str, **entry: object) -> Root:
    """The table of a step that was done on DAY."""
    name = {"ingest": "items", "build": "vocabulary", "predict": "metrics"}[step]
    home = {"ingest": ("logs", config.logs_id), "build": ("data_set", config.data_set_id), "predict": ()}[step]
    table = root.at(*home, "tables", name)
    write(table)
    entry |= {"step": step, "subject": subject, "from_day": DAY, "to_day": DAY}
    registry.record(root, [{**entry, "tables": registry.written(root, config, step)}])
    return table


LOSSES = pytest.mark.parametrize("lose", [remove, put_back, remove_and_begin_again])


@LOSSES
def test_what_was_ingested_and_is_lost_is_named_until_it_is_ingested_again(
    root: Root, config: Config, lose: Callable[[Root], None]
) -> None:
    table = done(root, config, "ingest", config.logs_id)
    write(table)  # whatever is written later keeps what was there
    assert registry.existing(root, config).ingested == {DAY}
    done(root, config, "ingest", config.logs_id)
    lose(table)
    named = rf"{table}: no longer holds what was ingested of {DAY}\.\.{DAY}: restore it, or write it again by `ecdctr i"
    with pytest.raises(ConfigError, match=named):
        registry.existing(root, config)
    without = load_config([], [FIRST_DAY, f"check.without_logs=[{DAY}]"])
    assert registry.existing(root, without).ingested == {DAY}
    done(root, config, "ingest", config.logs_id)
    assert registry.existing(root, config).ingested == {DAY}


@LOSSES
def test_a_day_that_a_table_has_lost_is_built_again(root: Root, config: Config, lose: Callable[[Root], None]) -> None:
    ledger(root, "ingest", config.logs_id, DAY)
    table = done(root, config, "build", config.data_set_id)
    write(table)
    assert registry.existing(root, config).built == {DAY}
    done(root, config, "build", config.data_set_id)
    lose(table)
    assert registry.existing(root, config).built == frozenset()


@LOSSES
def test_predictions_that_are_lost_are_no_longer_current(
    root: Root, config: Config, lose: Callable[[Root], None]
) -> None:
    made = registered(root, config, date=DAY - dt.timedelta(days=1))
    inputs = registry.inputs(root, config, [("ad", DAY)], [made.model_id])
    entry = {"detail": made.model_id, "rows_kept": 3, "inputs": inputs}
    for _ in range(2):
        table = done(root, config, "predict", "a method", **entry)
        assert registry.existing(root, config).evaluated == {(DAY, "a method"): made.model_id}
    lose(table)
    assert registry.existing(root, config).evaluated == {(DAY, "a method"): None}
