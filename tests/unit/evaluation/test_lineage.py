"""Which models a result depends on, and how, follows from the fields of the levels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.evaluation.lineage import Line, Link, Replaced, ancestors, lines, members, replaced
from ecdctr_spark.methods.planning import Existing, Planner, Training

BEGIN, DAY = dt.date(2000, 9, 1), dt.date(2000, 12, 6)  # a Wednesday
NO_MEMORY = "methods.no_memory={like: ecdctr, title: no memory, levels: {cpm: {memory: null}, actr: {memory: null}}}"


def configured(*settings: str, methods: tuple[str, ...] = ()) -> Config:
    return load_config([], [f"calendar.first_day={BEGIN}", *settings], methods)


def planner(config: Config) -> Planner:
    return Planner(config.chosen, config.data_set_id, config.calendar.first_day)


def registered(trainings: Iterable[Training]) -> dict[str, dict[str, Any]]:
    """The rows of MODELS that these trainings lead to."""
    return {
        each.model_id: {
            "model_id": each.model_id,
            "level": each.level.name,
            "date": each.date,
            "parents": [model.model_id for model in each.parents],
        }
        for each in trainings
    }


def models(plan: Planner, day: dt.date = DAY) -> dict[str, dict[str, Any]]:
    return registered(step for step in plan.plan(day, day, Existing()) if isinstance(step, Training))


def test_equal_levels_of_several_methods_are_one_line_and_others_name_their_method() -> None:
    found = lines(configured(NO_MEMORY, methods=("ecdctr", "no_memory", "ads_only")).chosen)
    assert found["ecdctr", "tpm"] == found["no_memory", "tpm"] == Line("TPM", "month")
    assert found["ecdctr", "cpm"] == Line("CPM (E-CDCTR)", "week")
    assert found["no_memory", "cpm"] == Line("CPM (no memory)", "week")
    assert [line.every for line in found.values()] == sorted(
        (line.every for line in found.values()), key=["month", "week", "day"].index
    )


def test_a_level_is_another_line_where_what_it_refers_to_differs() -> None:
    other = "methods.other={like: ecdctr, title: other, levels: {tpm: {train: {seed: 9}}}}"
    config = configured(other, methods=("ecdctr", "other"))
    (ours, theirs), found = config.chosen, lines(config.chosen)
    assert ours.levels["actr"] == theirs.levels["actr"]
    assert found["ecdctr", "actr"] != found["other", "actr"]


def test_each_model_says_how_it_was_made_from_each_parent() -> None:
    config = configured(methods=("ecdctr",))
    plan = planner(config)
    known, serving = models(plan), plan.serving(config.chosen[0], DAY - dt.timedelta(days=1))
    found = {
        member.row["model_id"]: member
        for member in members(known.values(), config.chosen, {"ecdctr": [serving.model_id]})
    }
    assert found.keys() == ancestors([serving.model_id], known) < known.keys()
    hows = {
        (member.row["level"], link.how, known[link.parent]["level"])
        for member in found.values()
        for link in member.links
    }
    assert hows == {
        ("tpm", "continues", "tpm"),
        ("cpm", "remembers", "tpm"),
        ("actr", "starts", "cpm"),
        ("actr", "continues", "actr"),
    }
    weekly = next(member for member in found.values() if member.row["level"] == "cpm")
    assert [link.parent[:11] for link in weekly.links] == ["tpm-2000-09", "tpm-2000-10", "tpm-2000-11"]


def test_a_teacher_and_a_parent_outside_the_registry_are_known_by_their_level() -> None:
    teacher = "{teacher: {level: cpm, share: 0.5, max_age_days: 30}}"
    taught = f"methods.taught={{like: ecdctr, title: taught, levels: {{actr: {teacher}}}}}"
    config = configured(taught, methods=("taught",))
    row = {"model_id": "actr-x", "level": "actr", "date": DAY, "parents": ["actr-2000-12-05-1a", "cpm-2000-12-04-2b"]}
    (member,) = members([row], config.chosen, {"taught": ["actr-x"]})
    assert member.links == (Link("continues", "actr-2000-12-05-1a"), Link("taught", "cpm-2000-12-04-2b"))


@pytest.mark.parametrize(
    ("level", "named"),
    [
        ("tpm", {"TPM": "2000-11-30"}),
        ("cpm", {"CPM": "2000-12-04", "TPM": "2000-11-30"}),  # November's snapshot is only in the newest CPM
        ("actr", {"A-CTR": "2000-12-05"}),
    ],
)
def test_a_day_names_the_models_due_that_older_ones_replaced(level: str, named: dict[str, str]) -> None:
    config = configured(methods=("ecdctr",))
    (method,), complete = config.chosen, planner(config)
    due = dt.date.fromisoformat(next(iter(named.values())))
    lacking = complete.without(complete.training(method, level, due).model_id)
    used = lacking.serving(method, DAY - dt.timedelta(days=1)).model_id
    found = replaced(complete, method, DAY, used, models(complete) | models(lacking))
    assert {each.line.title: str(each.due) for each in found} == named
    before = due - dt.timedelta(days={"tpm": 30, "cpm": 7, "actr": 1}[level])
    line = lines(config.chosen)["ecdctr", level]
    assert Replaced(DAY, "E-CDCTR", line, due, before) in found


def test_a_day_on_the_newest_models_is_not_named() -> None:
    config = configured(methods=("ecdctr",))
    (method,), complete = config.chosen, planner(config)
    used = complete.serving(method, DAY - dt.timedelta(days=1)).model_id
    assert replaced(complete, method, DAY, used, models(complete)) == []
