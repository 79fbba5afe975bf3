"""What is due on which day is a pure function of the dates, the methods and what exists."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise

import pytest

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods.currency import Slice
from ecdctr_spark.methods.method import DAY, Every
from ecdctr_spark.methods.planning import (
    Build,
    Existing,
    Ingest,
    Model,
    Planner,
    Prediction,
    Registered,
    Step,
    Training,
    days,
    ranges,
    standing,
)
from ecdctr_spark.settings.base import ConfigError

FIRST, LAST = dt.date(2000, 12, 4), dt.date(2000, 12, 13)  # a Monday, and the Wednesday of the week after
BEGIN = dt.date(2000, 4, 25)


def configured(*settings: str, methods: tuple[str, ...] = ()) -> Config:
    return load_config([], [f"calendar.first_day={BEGIN}", *settings], methods)


def planner(*settings: str, methods: tuple[str, ...] = ()) -> Planner:
    config = configured(*settings, methods=methods)
    return Planner(config.chosen, config.data_set_id, config.calendar.first_day)


@pytest.fixture(scope="module")
def planned() -> tuple[Step, ...]:
    return planner().plan(FIRST, LAST, Existing())


def trainings(steps: tuple[Step, ...], level: str = "") -> list[Training]:
    return [step for step in steps if isinstance(step, Training) and level in ("", step.level.name)]


def dates(steps: tuple[Step, ...], level: str) -> list[str]:
    return [str(training.date) for training in trainings(steps, level)]


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def test_a_monthly_chain_starts_at_the_first_day_and_adds_each_month_as_it_ends(planned: tuple[Step, ...]) -> None:
    assert dates(planned, "tpm") == [
        "2000-04-30", "2000-05-31", "2000-06-30", "2000-07-31", "2000-08-31", "2000-09-30", "2000-10-31", "2000-11-30",
    ]  # fmt: skip
    tpm = trainings(planned, "tpm")
    assert (tpm[0].how, tpm[0].first) == ("fresh", BEGIN)
    assert all(after.parent == before.model for before, after in pairwise(tpm))
    assert all(training.first == training.date.replace(day=1) for training in tpm[1:])


def test_a_chain_without_a_parent_starts_where_the_configuration_says() -> None:
    steps = planner("methods.ecdctr.levels.tpm.starts_on=2000-09-01").plan(FIRST, FIRST, Existing())
    assert dates(steps, "tpm") == ["2000-09-30", "2000-10-31", "2000-11-30"]


def test_a_weekly_level_reads_its_days_and_remembers_the_newest_snapshots(planned: tuple[Step, ...]) -> None:
    assert dates(planned, "cpm") == ["2000-11-27", "2000-12-04", "2000-12-11"]
    weekly = trainings(planned, "cpm")
    assert [str(model.date) for model in weekly[0].snapshots] == ["2000-08-31", "2000-09-30", "2000-10-31"]
    assert [str(model.date) for model in weekly[1].snapshots] == ["2000-09-30", "2000-10-31", "2000-11-30"]
    assert [(training.date - training.first).days for training in weekly] == [29, 29, 29]


def test_a_memory_has_the_dimension_of_the_model_that_it_is_of() -> None:
    plans = planner("methods.ecdctr.levels.tpm.network.dimension=8", "evaluation.methods=[ecdctr]")
    asked = (("tpm", day("2000-11-30")), ("cpm", FIRST), ("actr", FIRST))
    found = [plans.training(plans.methods[0], level, date).snapshot_dimension for level, date in asked]
    assert found == [0, 8, 8]


def test_a_daily_chain_starts_at_its_parent_s_date_and_continues_day_by_day(planned: tuple[Step, ...]) -> None:
    daily = {training.date: training for training in trainings(planned, "actr")}
    assert min(daily) == day("2000-11-27")
    for monday in ("2000-11-27", "2000-12-04", "2000-12-11"):
        start = daily[day(monday)]
        assert (start.how, start.parent and start.parent.date) == ("from", day(monday))
        assert (start.date - start.first).days == 13
    tuesday = daily[day("2000-12-05")]
    assert (tuesday.how, tuesday.first, tuesday.parent) == ("continue", tuesday.date, daily[FIRST].model)


@pytest.mark.parametrize("level", ["tpm", "cpm", "actr"])
def test_what_a_model_is_does_not_depend_on_the_days_that_were_asked_for(level: str) -> None:
    together = {step.date: step.model_id for step in trainings(planner().plan(FIRST, LAST, Existing()), level)}
    for asked in (LAST, FIRST, day("2000-12-06")):
        alone = {step.date: step.model_id for step in trainings(planner().plan(asked, asked, Existing()), level)}
        assert alone.items() <= together.items()


@pytest.mark.parametrize("methods", [(), ("ads_only",)])
def test_every_day_is_predicted_before_any_model_reads_it(methods: tuple[str, ...]) -> None:
    seen: set[dt.date] = set()
    steps = planner(methods=methods).plan(FIRST, LAST, Existing())
    for step in steps:
        if isinstance(step, Prediction):
            assert step.day not in seen
            assert all(model.date == step.day - dt.timedelta(days=1) for _, model in step.models)
        elif isinstance(step, Training):
            seen.add(step.date)
    assert [step.day for step in steps if isinstance(step, Prediction)] == list(days(FIRST, LAST))


def test_a_step_comes_after_all_that_it_is_made_from(planned: tuple[Step, ...]) -> None:
    made: set[Model] = set()
    for step in planned:
        if isinstance(step, Training):
            assert set(step.parents) <= made
            assert all(parent.date <= step.date for parent in step.parents)
            made.add(step.model)
        elif isinstance(step, Prediction):
            assert {model for _, model in step.models} <= made


def everything(steps: tuple[Step, ...]) -> Existing:
    return Existing(
        models=frozenset(step.model_id for step in trainings(steps)),
        ingested=frozenset(days(BEGIN, LAST)),
        built=frozenset(days(BEGIN, LAST)),
        evaluated={
            (step.day, method): model.model_id
            for step in steps
            if isinstance(step, Prediction)
            for method, model in step.models
        },
    )


def test_what_exists_is_not_due_again(planned: tuple[Step, ...]) -> None:
    assert planner().plan(FIRST, LAST, everything(planned)) == ()


def test_only_the_gap_is_due_when_a_run_was_interrupted(planned: tuple[Step, ...]) -> None:
    finished = trainings(planned)[:12]
    existing = Existing(models=frozenset(step.model_id for step in finished))
    rest = planner().plan(FIRST, LAST, existing)
    assert [step.model_id for step in trainings(rest)] == [step.model_id for step in trainings(planned)[12:]]


def test_a_setting_makes_due_only_what_depends_on_it(planned: tuple[Step, ...]) -> None:
    changes = {
        "methods.ecdctr.levels.tpm.train.epochs=2": {"tpm", "cpm", "actr"},
        "methods.ecdctr.levels.cpm.train.epochs=2": {"cpm", "actr"},
        "methods.ecdctr.levels.actr.train.epochs=2": {"actr", "ads_only"},  # ads only is like it
        "methods.ads_only.levels.ads_only.train.epochs=2": {"ads_only"},
        "sampling.seed=8": {"tpm", "cpm", "actr", "ads_only"},
        "source.folder=elsewhere": {"tpm", "cpm", "actr", "ads_only"},
        "training.ranks=8": set(),
        "storage.root=elsewhere": set(),
        "methods.ecdctr.title=ours": set(),
    }
    for setting, levels in changes.items():
        steps = planner(setting).plan(FIRST, LAST, everything(planned))
        assert {step.level.name for step in trainings(steps)} == levels, setting


def test_another_configuration_s_predictions_are_due_again(planned: tuple[Step, ...]) -> None:
    steps = planner("methods.ecdctr.levels.actr.train.seed=9").plan(FIRST, LAST, everything(planned))
    first = next(step for step in steps if isinstance(step, Prediction))
    assert [method.rsplit("-", 1)[0] for method, _ in first.models] == ["ecdctr", "ads_only"]


def test_methods_share_every_level_that_is_equal() -> None:
    ablation = "methods.unmerged={like: ecdctr, levels: {actr: {memory: null}}}"
    steps = planner(ablation, methods=("ecdctr", "unmerged")).plan(FIRST, FIRST, Existing())
    assert len(dates(steps, "cpm")) == len(set(dates(steps, "cpm")))
    assert len(dates(steps, "actr")) == 2 * len(set(dates(steps, "actr")))


def test_a_level_that_failed_is_replaced_by_the_one_before_it() -> None:
    plans = planner("evaluation.methods=[ecdctr]")
    monday = plans.training(plans.methods[0], "cpm", FIRST)
    steps = plans.without(monday.model_id).plan(FIRST, FIRST, Existing())
    assert dates(steps, "cpm") == ["2000-11-27"]
    newest = trainings(steps, "actr")[-1]
    assert (newest.date, newest.how) == (FIRST, "continue")
    assert newest.model_id != plans.training(plans.methods[0], "actr", FIRST).model_id


def test_a_gap_in_a_chain_is_read_by_the_model_after_it() -> None:
    plans = planner()
    august = plans.training(plans.methods[0], "tpm", day("2000-08-31"))
    september = plans.without(august.model_id).training(plans.methods[0], "tpm", day("2000-09-30"))
    assert (september.first, september.parent and september.parent.date) == (day("2000-08-01"), day("2000-07-31"))


def test_a_parent_beyond_the_age_limit_is_refused() -> None:
    plans = planner("evaluation.methods=[ecdctr]")
    for monday in ("2000-11-13", "2000-11-20", "2000-11-27", "2000-12-04"):
        plans.training(plans.methods[0], "cpm", day(monday))
        plans = plans.without(plans.training(plans.methods[0], "cpm", day(monday)).model_id)
    with pytest.raises(ConfigError, match=r"actr of 2000-12-03 .* cpm .* newest is of 2000-11-06.*train cpm"):
        plans.plan(FIRST, FIRST, Existing())
    assert plans.plan(day("2000-11-20"), day("2000-11-20"), Existing())


def test_snapshots_beyond_the_age_limit_are_left_out() -> None:
    plans = planner("methods.ecdctr.levels.cpm.memory.max_age_days=40")
    assert [str(model.date) for model in plans.training(plans.methods[0], "cpm", FIRST).snapshots] == [
        "2000-10-31", "2000-11-30",
    ]  # fmt: skip


def test_a_level_that_starts_anew_each_time_needs_no_model_before_it() -> None:
    levels = "methods.ecdctr.levels.actr"
    plans = planner(
        f"{levels}.starts=[{{how: fresh}}]",
        f"{levels}.memory=null",
        f"{levels}.teacher={{level: cpm, share: 0.5, max_age_days: 3}}",
        "methods.ads_only.levels.ads_only.teacher=null",
    )
    method, monday = plans.methods[0], FIRST
    with pytest.raises(ConfigError, match=r"its teacher cpm has no model of at most 3 days"):
        plans.training(method, "actr", monday - DAY)
    tuesday = plans.training(method, "actr", monday + DAY)
    assert tuesday.teacher and tuesday.teacher.date == monday


def test_days_before_a_chain_begins_cannot_be_predicted() -> None:
    plans = planner("methods.ads_only.levels.ads_only.starts_on=2000-12-03")
    with pytest.raises(ConfigError, match=r"method ads_only: ads_only has no model of 2000-11-30"):
        plans.plan(day("2000-12-01"), LAST, Existing())


def test_all_days_are_ingested_and_built_from_the_first_day(planned: tuple[Step, ...]) -> None:
    assert [step for step in planned if isinstance(step, Ingest | Build)] == [Ingest(BEGIN, LAST), Build(BEGIN, LAST)]
    there = frozenset(days(BEGIN, day("2000-12-01"))) | {day("2000-12-10")}
    rest = planner().plan(FIRST, LAST, Existing(ingested=there))
    assert [step for step in rest if isinstance(step, Ingest)] == [
        Ingest(day("2000-12-02"), day("2000-12-09")),
        Ingest(day("2000-12-11"), LAST),
    ]


def test_all_built_days_after_one_that_is_due_are_built_again() -> None:
    later = LAST + 3 * DAY
    there = frozenset(days(BEGIN, later)) - {day("2000-12-02")}
    rest = planner().plan(FIRST, LAST, Existing(ingested=there, built=there))
    assert [step for step in rest if isinstance(step, Build)] == [Build(day("2000-12-02"), later)]


def test_a_day_without_logs_is_tried_again_only_where_it_is_asked_for(planned: tuple[Step, ...]) -> None:
    before, asked = FIRST - DAY, LAST
    without = replace(everything(planned), empty=frozenset({before, asked}))
    there = replace(without, ingested=without.ingested - without.empty, built=without.built - without.empty)
    assert planner().plan(FIRST, LAST, there) == (Ingest(asked, asked), Build(asked, asked))
    assert planner().plan(FIRST, LAST - DAY, there) == ()


def on(void: frozenset[Slice], *settings: str) -> Planner:
    return planner("evaluation.methods=[ecdctr]", *settings).knowing(void)


def test_nothing_is_trained_on_days_without_samples_and_the_next_model_continues_from_the_one_before() -> None:
    tuesday, wednesday = day("2000-12-05"), day("2000-12-06")
    plans = on(frozenset({("ad", tuesday)}))
    steps = plans.plan(wednesday, wednesday, Existing())
    assert str(tuesday) not in dates(steps, "actr")
    after = plans.training(plans.methods[0], "actr", wednesday)
    assert (after.first, after.parent and after.parent.date) == (tuesday, day("2000-12-04"))
    (prediction,) = (step for step in steps if isinstance(step, Prediction))
    assert [model.date for _, model in prediction.models] == [day("2000-12-04")]


def test_a_model_that_starts_anew_is_there_where_any_of_its_days_has_samples() -> None:
    month = frozenset(("natural", date) for date in days(FIRST - 28 * DAY, FIRST))
    assert str(FIRST) in dates(on(month).plan(FIRST, FIRST, Existing()), "cpm")  # it reads 30 days
    longer = month | {("natural", FIRST - 29 * DAY)}
    plans = on(longer)
    assert str(FIRST) not in dates(plans.plan(FIRST, FIRST, Existing()), "cpm")
    newest = plans.training(plans.methods[0], "actr", FIRST)
    assert (newest.how, newest.date) == ("continue", FIRST)


def test_a_long_chain_on_which_every_other_day_is_void_is_planned() -> None:
    later = BEGIN + 700 * DAY
    void = frozenset(("ad", BEGIN + offset * DAY) for offset in range(1, 700, 2))
    plans = planner("evaluation.methods=[ads_only]").knowing(void)
    steps = plans.plan(later, later, Existing(ingested=frozenset(days(BEGIN, later))))
    assert {date - BEGIN for date in map(day, dates(steps, "ads_only"))} == {
        offset * DAY for offset in range(0, 701, 2)
    }


def test_once_a_day_has_samples_all_from_there_on_gets_the_identity_that_it_has_on_whole_logs() -> None:
    whole = on(frozenset()).plan(FIRST, LAST, Existing())
    lacking = on(frozenset({("ad", day("2000-12-05"))})).plan(FIRST, LAST, Existing())
    there = everything(lacking)
    rest = on(frozenset()).plan(FIRST, LAST, there)
    both = {step.model_id for step in trainings(lacking)} | {step.model_id for step in trainings(rest)}
    assert both >= {step.model_id for step in trainings(whole)}
    assert min(dates(rest, "actr")) == "2000-12-05"
    assert [step.day for step in rest if isinstance(step, Prediction)] == [
        date for date in days(FIRST, LAST) if day("2000-12-05") <= date <= day("2000-12-11")
    ]  # from the twelfth on, the chain of another parent serves


def test_a_day_without_ads_has_nothing_to_predict_until_it_has_some(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    names = {name for _, name in there.evaluated}
    asked = replace(there, evaluated=there.evaluated | {(LAST, name): "" for name in names})
    without = planner().knowing(frozenset({("ad", LAST)}))
    assert not any(isinstance(step, Prediction) for step in without.plan(FIRST, LAST, asked))
    again = planner().plan(LAST + DAY, LAST + DAY, asked)  # asked for before, and now it has some
    assert [step.day for step in again if isinstance(step, Prediction)] == [LAST, LAST + DAY]


def test_predictions_whose_ads_are_gone_are_replaced_by_none(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    changed = replace(there, evaluated={key: None if key[0] == LAST else held for key, held in there.evaluated.items()})
    steps = planner().knowing(frozenset({("ad", LAST)})).plan(FIRST, LAST, changed)
    assert [step.day for step in steps if isinstance(step, Prediction)] == [LAST]


@pytest.mark.parametrize(("asked", "changed"), [(FIRST + 2 * DAY, FIRST), (LAST, FIRST), (FIRST, LAST)])
def test_predictions_that_are_no_longer_current_are_due_again_whichever_day_is_asked_for(
    planned: tuple[Step, ...], asked: dt.date, changed: dt.date
) -> None:
    there = everything(planned)
    restated = {(changed, name): None for _, name in there.evaluated}
    steps = planner().plan(asked, asked, replace(there, evaluated=there.evaluated | restated))
    assert [(type(step), step.day) for step in steps if isinstance(step, Prediction)] == [(Prediction, changed)]
    assert len(steps) == 1


def test_a_model_that_is_no_longer_current_is_trained_again_and_predicts_again(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    tuesday = next(step for step in trainings(planned, "actr") if step.date == day("2000-12-05"))
    steps = planner().plan(LAST, LAST, replace(there, models=there.models - {tuesday.model_id}))
    assert trainings(steps) == [tuesday]  # those made from it are not current either: see currency.current
    assert [step.day for step in steps if isinstance(step, Prediction)] == [tuesday.date + DAY]


def test_a_model_that_was_removed_is_not_due_for_itself(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    assert planner().plan(FIRST, LAST, replace(there, removed=there.models)) == ()


def test_a_model_that_was_removed_is_trained_again_where_another_is_made_from_it(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    thursday = next(step for step in trainings(planned, "actr") if step.date == day("2000-12-07"))
    wednesday, tuesday = (
        next(step for step in trainings(planned, "actr") if step.date == day(date))
        for date in ("2000-12-06", "2000-12-05")
    )
    removed = frozenset({wednesday.model_id, tuesday.model_id})
    restated = replace(there, models=there.models - {thursday.model_id}, removed=removed)
    assert trainings(planner().plan(LAST, LAST, restated)) == [tuesday, wednesday, thursday]


def test_a_day_that_is_restated_needs_the_model_that_was_removed(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    tuesday = next(step for step in trainings(planned, "actr") if step.date == day("2000-12-05"))
    restated = {(tuesday.date + DAY, name): None for _, name in there.evaluated}
    removed = replace(there, evaluated=there.evaluated | restated, removed=frozenset({tuesday.model_id}))
    assert trainings(planner().plan(LAST, LAST, removed)) == [tuesday]


def test_a_removed_model_of_a_job_of_another_clock_is_named(planned: tuple[Step, ...]) -> None:
    cpm = trainings(planned, "cpm")[-1]
    method = configured().chosen[0].name
    daily = replace(planner(), clocks=frozenset({"day"}), given={(method, "cpm", cpm.date): cpm.model})
    with pytest.raises(ConfigError, match=rf"{cpm.model_id} was removed .* run without training.clocks"):
        daily.plan(LAST, LAST, Existing(removed=frozenset({cpm.model_id})))


def test_other_methods_predictions_are_left_alone(planned: tuple[Step, ...]) -> None:
    there = everything(planned)
    other = {(FIRST, "another-1a2b3c4d"): None}
    assert planner().plan(FIRST, LAST, replace(there, evaluated=there.evaluated | other)) == ()


def test_ranges_join_days_without_a_gap() -> None:
    assert ranges([]) == []
    assert ranges([FIRST, day("2000-12-05"), day("2000-12-07")]) == [
        (FIRST, day("2000-12-05")),
        (day("2000-12-07"), day("2000-12-07")),
    ]


def test_a_level_has_no_model_before_its_chain_begins() -> None:
    plans = planner()
    with pytest.raises(ConfigError, match=r"cpm of 2000-04-24: its chain starts with the logs of 2000-04-25"):
        plans.training(plans.methods[0], "cpm", day("2000-04-24"))


def night(date: dt.date, clock: Every, made: list[Training], *settings: str) -> tuple[Step, ...]:
    """The job of one clock for a day, after the trainings that are `made`, which its own are added to."""
    registered = tuple(
        Registered(training.model, training.first, tuple(model.model_id for model in training.parents))
        for training in made
    )
    plans = planner(*settings)
    given = standing(plans.methods, plans.data_set, registered, {clock})
    ids = frozenset(training.model_id for training in made)
    limited = replace(plans, clocks=frozenset({clock}), given=given)
    steps = limited.plan(date, date, replace(nothing_to_count(date), models=ids))
    made += trainings(steps)
    return steps


def nothing_to_count(last: dt.date) -> Existing:
    built = frozenset(days(BEGIN, last))
    return Existing(ingested=built, built=built)


def test_a_job_of_one_clock_trains_the_levels_of_that_clock_and_the_daily_one_predicts() -> None:
    made: list[Training] = []
    monthly, weekly, daily = (night(day("2000-12-04"), clock, made) for clock in ("month", "week", "day"))
    assert {step.level.name for step in trainings(monthly)} == {"tpm"} and len(trainings(monthly)) == len(monthly)
    assert {step.level.name for step in trainings(weekly)} == {"cpm"} and len(trainings(weekly)) == len(weekly)
    assert {step.level.name for step in trainings(daily)} == {"actr", "ads_only"}
    assert [step.day for step in daily if isinstance(step, Prediction)] == [day("2000-12-04")]
    assert [night(day("2000-12-04"), clock, made) for clock in ("month", "week")] == [(), ()]


def test_a_job_for_each_clock_every_night_makes_the_models_of_one_run(planned: tuple[Step, ...]) -> None:
    made: list[Training] = []
    predicted = []
    for date in days(FIRST, LAST):
        for clock in ("month", "week", "day"):
            predicted += [step for step in night(date, clock, made) if isinstance(step, Prediction)]
    assert {training.model_id: training for training in made} == {step.model_id: step for step in trainings(planned)}
    # Without a ledger each night predicts its own day.
    assert predicted == [step for step in planned if isinstance(step, Prediction)]


def test_a_job_of_every_clock_plans_what_a_run_does() -> None:
    every: list[Every] = ["day", "month", "week"]
    after = day("2000-12-01")  # November's TPM is not asked for before the next CPM
    steps = planner().plan(after, after, Existing())
    assert replace(planner(), clocks=frozenset(every)).plan(after, after, Existing()) == steps
    assert "2000-11-30" not in dates(steps, "tpm")


def test_a_late_monthly_model_is_replaced_by_the_one_before_until_the_weekly_job_knows_it() -> None:
    made: list[Training] = []
    night(day("2000-11-29"), "month", made)  # the job of November's end is late
    (*_, without) = trainings(night(day("2000-12-04"), "week", made))
    assert [str(model.date) for model in without.snapshots] == ["2000-09-30", "2000-10-31"]  # August is too old by then
    (*_, actr) = trainings(night(day("2000-12-05"), "day", made), "actr")
    night(day("2000-12-05"), "month", made)
    (*_, next_actr) = trainings(night(day("2000-12-06"), "day", made), "actr")
    assert next_actr.parent == actr.model  # CPM as it was made still serves: its clock decides when it is made again
    again, after = trainings(night(day("2000-12-11"), "week", made))
    assert [str(step.date) for step in (again, after)] == ["2000-12-04", "2000-12-11"]
    assert [str(model.date) for model in again.snapshots] == ["2000-09-30", "2000-10-31", "2000-11-30"]
    chain = trainings(night(day("2000-12-10"), "day", made), "actr")
    assert chain[0].parent == again.model


def test_a_level_without_a_model_of_its_parent_says_which_one_to_train_and_that_it_may_be_too_early() -> None:
    advice = "train cpm, which is due every week, or ask for later days"
    with pytest.raises(ConfigError, match=rf"actr of 2000-12-03 cannot start: it needs a model of cpm .* {advice}"):
        night(day("2000-12-04"), "day", [])


@pytest.mark.parametrize("setting", ["train.epochs=2", "network.dimension=8", "reads.domains.natural=0.5"])
def test_models_of_another_configuration_are_not_taken_nor_any_made_from_them(setting: str) -> None:
    other: list[Training] = []
    for clock in ("month", "week"):
        night(day("2000-12-04"), clock, other, f"methods.ecdctr.levels.tpm.{setting}")
    assert {training.level.name for training in other} == {"tpm", "cpm"}
    with pytest.raises(ConfigError, match="cannot start"):
        night(day("2000-12-04"), "day", other)
