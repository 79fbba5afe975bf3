"""An identity covers what changes an object and nothing else."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache, lru_cache, reduce
from operator import getitem
from typing import Any

import pytest

from ecdctr_spark.config import Config, load_config, typed
from ecdctr_spark.methods.identity import identity
from ecdctr_spark.methods.planning import Planner
from ecdctr_spark.settings.base import plain

FIRST_DAY = "calendar.first_day=2000-05-01"  # later than what the synthetic platform has
DATE = dt.date(2024, 8, 31)


def ids(*settings: str) -> tuple[str, str]:
    config = load_config(["synthetic"], [FIRST_DAY, *settings])
    return config.logs_id, config.data_set_id


@pytest.mark.parametrize(
    "setting",
    [
        "source.ad_tab=1", "source.folder=f", "source.impressions=i", "source.format=csv", "synthetic.seed=2",
        "synthetic.users=7", "calendar.first_day=2000-05-02", "calendar.timezone=Asia/Tokyo",
    ],
)  # fmt: skip
def test_other_logs_make_another_data_set(setting: str) -> None:
    (logs, data_set), (other_logs, other_data_set) = ids(), ids(setting)
    assert logs != other_logs and data_set != other_data_set


@pytest.mark.parametrize(
    "setting",
    [
        "labels.attribution_hours=48", "labels.maturity_days=2", "features.freshness=event", "sampling.ad.negative=0.5",
        "samples.files_per_slice=3", "features.availability_minutes=5",
    ],
)  # fmt: skip
def test_a_setting_that_changes_samples_makes_another_data_set_of_the_same_logs(setting: str) -> None:
    (logs, data_set), (other_logs, other_data_set) = ids(), ids(setting)
    assert logs == other_logs and data_set != other_data_set


@pytest.mark.parametrize(
    "setting",
    [
        "storage.root=/elsewhere", "spark.master=local[8]", "training.ranks=8", "training.launcher=inline",
        "training.world=torch", "streaming.reader=arrow",
        "training.min_ranks=1", "check.least_rows=5", "evaluation.bootstrap=9", "tracking.experiment=x",
        "methods.ecdctr.levels.tpm.train.epochs=2",
    ],
)  # fmt: skip
def test_where_and_how_it_runs_makes_no_difference(setting: str) -> None:
    assert ids(setting) == ids()


def test_an_identity_depends_on_values_and_not_on_their_order() -> None:
    assert identity(1, a=1, b={"x": 1, "y": 2}) == identity(1, b={"y": 2, "x": 1}, a=1)
    assert identity(1, a=1) != identity(2, a=1)
    assert identity(1, a=[1, 2]) != identity(1, a=[2, 1])


# What becomes another object when a setting below a key is changed; the longest key decides. A new subtree of settings
# fails the test below until it is listed here.
EVERYTHING = ("logs", "data_set", "models", "methods")
SAMPLES = ("data_set", "models", "methods")
MODELS = ("models", "methods")
NOTHING = ()
CHANGES: dict[str, tuple[str, ...]] = {
    "source": EVERYTHING,
    "synthetic": EVERYTHING,
    "calendar": EVERYTHING,
    "labels": SAMPLES,
    "features": SAMPLES,
    "sampling": SAMPLES,
    "samples": SAMPLES,
    "methods": MODELS,
    "methods.*.serves": ("methods",),  # the same models; another one predicts
    "features.hot_rows": NOTHING,  # how rows are spread over tasks
    "methods.*.title": NOTHING,  # for people
    "methods.*.levels.*.title": NOTHING,
    "methods.*.levels.*.when_it_fails": NOTHING,  # what a run does without the model
    "storage": NOTHING,  # a root may be moved
    "spark": NOTHING,  # where it runs
    "streaming": NOTHING,  # every reader gives the same batches
    "training": NOTHING,  # how ranks are started; their number is recorded
    "check": NOTHING,  # refuses days, and changes none
    "evaluation": NOTHING,  # which methods a run is of, and how many resamples its intervals have
    "tracking": NOTHING,  # where figures are copied to
    "demo": NOTHING,  # the days that one command asks for
}
# Values to try for a setting, beside those near its own.
OTHERS = (
    True, 7, 0.5, "2024-08-20", "natural", "ad", "event", "clicks", "impressions", "basic", "all", "csv", "json",
    "spark", "local", "inline", "horovod", "petastorm", "arrow",
    "use the previous one", "stop", "bfloat16", "float32", "float16", "fbgemm", "torch", "copied",
    "kept", "mean", "last", "reset", "Asia/Tokyo", "item_id", "user_id", "user.age", "tpm", "cpm", "actr", "snapshot",
    "5g", "seconds", ";", "latin-1", "keep", "week",
    ["2024-08-20"], "ecdctr", "ads_only", {"x": "y"}, {"level": "tpm", "share": 0.5, "max_age_days": 9},
    {"level": "cpm", "share": 0.5, "max_age_days": 9}, {"of": "tpm", "pooling": "mean"}, ["snapshot"], ["x"], [],
)  # fmt: skip
# Settings that no other value fits while the rest stays as it is: a node of another kind has other settings, a name is
# that of its mapping, a level refers to the only one that will do, or to none where none is before it, and columns of
# ads need their folder.
BOUND = ("ads", "kind", "every", "how", "name", "of", "level", "pooling", "serves", "memory", "teacher", "keeps")


@lru_cache(maxsize=1)
def everything() -> str:
    """A configuration in which few settings are null, as JSON."""
    demo = "demo={first: 2024-08-01, last: 2024-08-02}"
    files = "source.kind=files"  # of which alone columns may be renamed
    chosen = ["training.min_ranks=1", "training.clocks=[day]", files]
    config = load_config(["synthetic"], ["calendar.first_day=2024-08-01", *chosen, demo])
    return json.dumps(plain(config))


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [leaf for key, value in inside for leaf in leaves(value, (*path, key))] or [path]


def with_another_value(whole: str, path: tuple[str | int, ...]) -> Config | None:
    """The configuration with the first other value at the path that is possible there, None where none is."""
    before, (*above, last) = typed(json.loads(whole)), path
    value = reduce(getitem, path, json.loads(whole))  # type: ignore[arg-type]
    near = [value + step for step in (1, -1, 0.25, -0.01)] if type(value) in (int, float) else []
    near += [f"{value}x"] if isinstance(value, str) else [not value] if isinstance(value, bool) else []
    for other in (*near, *OTHERS):
        changed = json.loads(whole)
        reduce(getitem, above, changed)[last] = other  # type: ignore[arg-type]
        with suppress(ValueError):
            config = typed(changed)
            if config != before:
                return config
    return None


@cache
def made_before() -> dict[str, object]:
    return made_with(typed(json.loads(everything())))


def made_with(config: Config) -> dict[str, object]:
    """The identities of all that a configuration makes; the models are those of one date."""
    planner = Planner(tuple(config.methods.values()), config.data_set_id, config.calendar.first_day)
    return {
        "logs": config.logs_id,
        "data_set": config.data_set_id,
        "methods": [planner.method_identity(method) for method in planner.methods],
        "models": [
            planner.training(method, name, level.clock.newest(DATE)).model_id
            for method in planner.methods
            for name, level in method.levels.items()
        ],
    }


def changes(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """What CHANGES says of the setting at the path."""
    parts = [str(part) for part in path]
    found = [key for key in CHANGES if fnmatch(".".join(parts[: key.count(".") + 1]), key)]
    assert found, f"{'.'.join(parts)}: a new setting: say in CHANGES what it changes"
    return CHANGES[max(found, key=lambda key: key.count("."))]


@pytest.mark.parametrize("path", leaves(json.loads(everything())), ids=lambda path: ".".join(map(str, path)))
def test_every_setting_changes_what_is_made_with_it_and_nothing_else(path: tuple[str | int, ...]) -> None:
    config = with_another_value(everything(), path)
    if config is None:
        assert {*path[-2:]} & {*BOUND}, "no other value is possible here: add one to OTHERS"
        return
    before, after = made_before(), made_with(config)
    changed = {name for name in before if before[name] != after[name]}
    chooses_days = path[0] == "methods" and path[-1] in ("starts_on", "days", "max_age_days")
    # A model's identity covers the days that it read and its parent, whichever setting chose them.
    assert changed | ({"models"} if chooses_days else set()) == set(changes(path))


def drop(folder: str) -> str:
    return load_config([], [FIRST_DAY, f"source.impressions={folder}"]).logs_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("drop/2024-01-05", "drop/2024-01-06"),
        ("drop/20240105/logs", "drop/20240206/logs"),
        ("drop/2024/01/05", "drop/2024/12/31"),
        ("drop/2024-01", "drop/2024-02"),
        ("drop/ds=2024-01-05", "drop/ds=2024-01-06"),
        ("drop/date=20240105", "drop/date=20240106"),
        ("drop/year=2024/month=1/day=5", "drop/year=2024/month=12/day=31"),
        ("s3://logs/2024-01-05", "s3://logs/2024-01-06"),
        ("impressions_20240105", "impressions_20240106"),
    ],
)
def test_a_folder_per_day_is_one_source(one: str, other: str) -> None:
    assert drop(one) == drop(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("drop/2024-01-05", "other/2024-01-05"),
        ("drop/2024-01-05", "drop"),
        ("shop-1", "shop-2"),
        ("drop/120240105", "drop/120240106"),  # digits inside a longer number
        ("drop/2024010512", "drop/2024010513"),
        ("drop/2024-13-01", "drop/2024-13-02"),  # no month
        ("drop/20240132", "drop/20240133"),  # no day
        ("drop/v2024", "drop/v2025"),
        ("drop/leapyear=2024", "drop/leapyear=2025"),
    ],
)
def test_another_folder_is_another_source(one: str, other: str) -> None:
    assert drop(one) != drop(other)
