"""What is due on which day is a pure function of the dates, the configuration and what exists."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.pipeline.calendar import Done, Model, Plan, Prediction, Training, due, plan
from ecdctr_spark.settings.base import ConfigError

FIRST, LAST = dt.date(2000, 12, 4), dt.date(2000, 12, 13)  # a Monday, and the Wednesday of the week after


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(overrides=["calendar.first_day=2000-04-25"])


@pytest.fixture(scope="module")
def planned(config: Config) -> Plan:
    return plan(config, FIRST, LAST, Done())


def dates(planned: Plan, level: str) -> list[str]:
    return [str(training.date) for training in planned.trainings if training.level == level]


def test_tpm_catches_up_month_by_month_and_then_adds_each_month_as_it_ends(planned: Plan) -> None:
    assert dates(planned, "tpm") == [
        "2000-05-31", "2000-06-30", "2000-07-31", "2000-08-31", "2000-09-30", "2000-10-31", "2000-11-30",
    ]  # fmt: skip
    tpm = [training for training in planned.trainings if training.level == "tpm"]
    assert tpm[0].transfer == "fresh"
    assert all(after.parent == before.model for before, after in pairwise(tpm))
    assert all(training.first == training.date.replace(day=1) for training in tpm)


def test_cpm_is_trained_weekly_on_the_last_month_with_the_three_newest_snapshots(planned: Plan) -> None:
    assert dates(planned, "cpm") == ["2000-11-27", "2000-12-04", "2000-12-11"]
    weekly = [training for training in planned.trainings if training.level == "cpm"]
    assert weekly[0].snapshots == ("2000-08", "2000-09", "2000-10")
    assert weekly[1].snapshots == ("2000-09", "2000-10", "2000-11")
    assert [(training.date - training.first).days for training in weekly] == [29, 29, 29]


def test_the_ad_model_starts_from_each_new_cpm_and_learns_one_day_at_a_time_between(planned: Plan) -> None:
    daily = {training.date: training for training in planned.trainings if training.level == "actr"}
    first = daily[FIRST - dt.timedelta(days=1)]
    assert (first.transfer, first.parent) == ("from_cpm", Model("cpm", dt.date(2000, 11, 27)))
    assert daily[FIRST].transfer == "from_cpm"  # the CPM of that Monday is new
    tuesday = daily[dt.date(2000, 12, 5)]
    assert (tuesday.transfer, tuesday.first) == ("continue", tuesday.date)


def test_every_day_is_predicted_before_any_model_reads_it(planned: Plan) -> None:
    seen: set[dt.date] = set()
    for step in planned.by_day():
        if isinstance(step, Prediction):
            assert step.day not in seen
        else:
            seen.add(step.date)
    assert [step.day for step in planned.by_day() if isinstance(step, Prediction)] == [
        FIRST + dt.timedelta(days=offset) for offset in range(10)
    ]


def test_no_model_rests_on_one_that_saw_a_later_day(planned: Plan) -> None:
    for training in planned.trainings:
        if training.parent:
            assert training.parent.date <= training.date
        assert all(month <= training.date.strftime("%Y-%m") for month in training.snapshots)


def test_what_exists_is_not_due_again(config: Config, planned: Plan) -> None:
    everything = Done(
        models=frozenset(training.model for training in planned.trainings),
        ingested=frozenset(planned.ingest[0][0] + dt.timedelta(days=n) for n in range(400)),
        built=frozenset(planned.build[0][0] + dt.timedelta(days=n) for n in range(400)),
        evaluated=frozenset((step.day, level) for step in planned.predictions for level in step.levels),
    )
    assert len(plan(config, FIRST, LAST, everything)) == 0


def test_only_the_gap_is_due_when_a_run_broke_off(config: Config, planned: Plan) -> None:
    steps = list(planned.by_day())
    finished = [step for step in steps[:20] if isinstance(step, Training)]
    done = Done(models=frozenset(training.model for training in finished))
    rest = plan(config, FIRST, LAST, done)
    assert list(rest.trainings) == [training for training in planned.trainings if training not in finished]


def test_a_late_cpm_is_replaced_by_the_one_before_it(config: Config) -> None:
    models = [Model("cpm", dt.date(2000, 11, 20)), Model("actr", dt.date(2000, 12, 3), dt.date(2000, 11, 20))]
    training = due(config, "actr", FIRST, models)
    assert (training.transfer, training.cpm) == ("continue", dt.date(2000, 11, 20))


def test_a_cpm_beyond_the_age_limit_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"A-CTR of 2000-12-04 .* newest is of 2000-10-30.*train CPM"):
        due(config, "actr", FIRST, [Model("cpm", dt.date(2000, 10, 30))])


def test_snapshots_beyond_the_age_limit_are_left_out(config: Config) -> None:
    models = [Model("tpm", dt.date(2000, 6, 30)), Model("tpm", dt.date(2000, 10, 31))]
    assert due(config, "cpm", FIRST, models).snapshots == ("2000-10",)


def test_nothing_before_the_first_day_of_logs_is_read(planned: Plan) -> None:
    assert planned.ingest == planned.build == ((dt.date(2000, 5, 1), LAST),)
