"""What comes late is restated everywhere: nights one by one end with what one run at the end gives."""

from __future__ import annotations

import csv
import datetime as dt
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pyspark.sql import SparkSession

from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS, MODELS, PREDICTIONS
from ecdctr_spark.tables.small import Row, read_rows
from ecdctr_spark.tables.store import Store
from tests.end_to_end.test_run import Output, ecdctr

pytestmark = pytest.mark.end_to_end

FIRST = dt.date(2024, 2, 27)  # a Tuesday
NIGHTS = [dt.date(2024, 3, day) for day in range(5, 10)]
LATE_DAY, EMPTY_DAY, DAY_WITHOUT_ADS = NIGHTS[2:]
DAY = dt.timedelta(days=1)
TIDY = ["--set", "storage.keep_days=0", "--set", "storage.keep_models_days=1"]
USERS, ITEMS, EVENTS = 8, 10, 60
LEVELS = {
    "tpm": {"clock": {"every": "week", "weekday": 1}, "train": {"batch_size": 64}},
    "cpm": {
        "clock": {"every": "week", "weekday": 2},
        "reads": {"days": 5},
        "network": {"hidden": [8], "attention_hidden": [4], "cross_layers": 1, "dimension": 4},
        "train": {"batch_size": 64},
    },
    "actr": {"reads": {"days": 4}, "train": {"batch_size": 16}},
}


class Event(NamedTuple):
    """A raw impression and its click, if any, and the night on which each is in the logs."""

    name: str
    time: dt.datetime
    domain: str
    user: str
    item: str
    arrives: dt.date
    clicked: dt.datetime | None
    click_arrives: dt.date


def platform() -> Iterator[Event]:
    """Some clicks come hours later, on the next day too. From the first night on, when all users and items are known,
    every sixth row is in the logs a night late."""
    chance = random.Random(3)
    for day in (FIRST + offset * DAY for offset in range((NIGHTS[-1] - FIRST).days + 1)):
        for number in range(EVENTS if day != EMPTY_DAY else 0):
            time = dt.datetime.combine(day, dt.time(chance.randrange(6, 23), chance.randrange(60)))
            user, item = chance.randrange(USERS), chance.randrange(ITEMS)
            domain = "ad" if number % 3 == 0 and day != DAY_WITHOUT_ADS else "natural"
            clicked = None
            if chance.random() < (0.7 if user % 2 == item % 2 else 0.25):
                clicked = time + dt.timedelta(minutes=1 if chance.random() < 0.6 else 600)
            late, click_late = (day >= NIGHTS[0] and chance.random() < 1 / 6 for _ in range(2))
            arrives, click_day = day + late * DAY, clicked.date() if clicked else day
            click_arrives = max(arrives, click_day + click_late * DAY)
            if LATE_DAY in (day, click_day):
                arrives, click_arrives = (
                    max(night, LATE_DAY + (day == LATE_DAY) * DAY) for night in (arrives, click_arrives)
                )
            yield Event(f"{day}-{number}", time, domain, f"u{user}", f"i{item}", arrives, clicked, click_arrives)


def write(folder: Path, events: Sequence[Event], night: dt.date) -> None:
    """The logs as they are that night."""
    shown = [(*event[:1], event.time.isoformat(), *event[2:5]) for event in events if event.arrives <= night]
    clicks = [
        (event.name, event.clicked.isoformat())
        for event in events
        if event.clicked and event.clicked.date() <= night and event.click_arrives <= night
    ]
    for name, columns, rows in (
        ("impressions", ("event_id", "event_time", "domain", "user_id", "item_id"), shown),
        ("clicks", ("event_id", "click_time"), clicks),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        with (folder / name / "part.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])


class World(NamedTuple):
    """Logs that grow night by night, and the configuration that reads them."""

    events: list[Event]
    logs: Path
    overlay: Path

    def run(self, root: Path, first: dt.date, last: dt.date, *arguments: str, by: dt.date | None = None) -> Output:
        """A run on the logs as they are at night, by default that of the last day."""
        write(self.logs, self.events, by or last)
        return ecdctr("run", self.overlay, root, "--from", str(first), "--to", str(last), *arguments)


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    settings = {
        "source": {"kind": "files", "format": "csv"}
        | {name: str(folder / "logs" / name) for name in ("impressions", "clicks")},
        "calendar": {"first_day": str(FIRST)},
        "features": {"fields": {"item_category": None, "category_natural_rate_7": None}},  # nothing is known of items
        "training": {"launcher": "inline", "ranks": 1},
        "methods": {"ecdctr": {"levels": LEVELS}},
        "evaluation": {"methods": ["ecdctr"], "bootstrap": 10},
    }
    (folder / "world.yaml").write_text(yaml.safe_dump(settings))
    return World(list(platform()), folder / "logs", folder / "world.yaml")


@pytest.fixture(scope="module")
def at_once(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of all days on the logs as they are in the end."""
    root = tmp_path_factory.mktemp("at-once")
    done = world.run(root, NIGHTS[0], NIGHTS[-1])
    assert done.code == 2 and f"no logs of {EMPTY_DAY} in" in done.err, done.out + done.err
    return root


@pytest.fixture(scope="module")
def nightly(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[dt.date, Path]:
    """A run each night on the logs as they were then: the root as it was after each. One night also removes models that
    the next ones need again."""
    folder = tmp_path_factory.mktemp("nightly")
    roots: dict[dt.date, Path] = {}
    for night in NIGHTS:
        root = folder / str(night)
        if roots:
            shutil.copytree(roots[night - DAY], root)
        done = world.run(root, night, night)
        assert done.code == (2 if night in (LATE_DAY, EMPTY_DAY) else 0), done.out + done.err
        if night == LATE_DAY:
            tidied = ecdctr("tidy", world.overlay, root, *TIDY)
            assert re.search(r"[1-9]\d* files of old versions and [1-9]\d* old models removed", tidied.out), tidied
        roots[night] = root
    return roots


def rows(root: Path) -> list[Row]:
    return sorted(read_rows(Root.parse(root), METRICS), key=lambda row: str(row["date"]))


def mature(root: Path) -> dict[dt.date | None, bool]:
    return {row["date"]: row["mature"] for row in rows(root)}


def models(root: Path) -> dict[str, tuple[str, dt.datetime]]:
    """The digest of each model, and when it was trained."""
    return {row["model_id"]: (row["digest"], row["created"]) for row in read_rows(Root.parse(root), MODELS)}


def digests(root: Path) -> dict[str, str]:
    return {name: digest for name, (digest, _) in models(root).items()}


def predictions(spark: SparkSession, root: Path) -> list[Any]:
    return sorted(Store(Session.of(spark), Root.parse(root)).read(PREDICTIONS).collect())


def test_nights_one_by_one_end_with_the_metrics_and_predictions_of_one_run_at_the_end(
    spark: SparkSession, nightly: dict[dt.date, Path], at_once: Path
) -> None:
    in_the_end = nightly[NIGHTS[-1]]
    assert [row["date"] for row in rows(at_once)] == [*NIGHTS[:3], None]
    assert rows(in_the_end) == rows(at_once)
    assert predictions(spark, in_the_end) == predictions(spark, at_once)
    served = {row["model_id"] for row in rows(at_once)} - {None}
    assert {name: digests(in_the_end)[name] for name in served} == {name: digests(at_once)[name] for name in served}


def test_metrics_change_until_they_are_mature_and_say_so(nightly: dict[dt.date, Path]) -> None:
    first = NIGHTS[0]
    by_night = [{row["date"]: row for row in rows(root)}[first] for root in nightly.values()]
    assert [row["mature"] for row in by_night] == [False, False, False, True, True]
    assert by_night[0]["impressions"] < by_night[1]["impressions"]  # rows that came late
    assert by_night[0]["clicks"] < by_night[3]["clicks"]
    assert by_night[3] == by_night[4]
    assert mature(nightly[NIGHTS[-1]]) == {first: True, NIGHTS[1]: False, LATE_DAY: False, None: False}


def test_a_day_that_is_known_to_have_no_logs_is_not_waited_for(
    nightly: dict[dt.date, Path], world: World, tmp_path: Path
) -> None:
    root = copy(nightly[NIGHTS[-1]], tmp_path)
    declared = world.run(root, EMPTY_DAY, NIGHTS[-1], "--set", f"check.without_logs=[{EMPTY_DAY}]")
    assert declared.code == 0 and "nothing is due" in declared.out, declared.out + declared.err
    assert mature(root) == dict.fromkeys([*NIGHTS[:3]], True) | {None: True}


def test_before_a_day_has_logs_nothing_is_trained_on_it(nightly: dict[dt.date, Path], world: World) -> None:
    root = nightly[LATE_DAY]
    assert not any(name.startswith(f"actr-{LATE_DAY}") for name in models(root))
    assert LATE_DAY not in mature(root)
    refused = ecdctr("train", world.overlay, root, "--level", "actr", "--date", str(LATE_DAY))
    assert refused.code == 2
    assert f"no ad samples of {LATE_DAY}..{LATE_DAY}" in refused.err


def test_once_its_logs_come_the_same_command_does_what_it_would_have_done(
    spark: SparkSession, nightly: dict[dt.date, Path], world: World, tmp_path: Path
) -> None:
    came, there = copy(nightly[LATE_DAY], tmp_path / "came"), copy(nightly[LATE_DAY - DAY], tmp_path / "there")
    for root in (came, there):
        done = world.run(root, LATE_DAY, LATE_DAY, by=LATE_DAY + DAY)
        assert done.code == 0, done.out + done.err
    assert rows(came) == rows(there)
    assert predictions(spark, came) == predictions(spark, there)
    assert digests(came) == digests(there)
    assert any(name.startswith(f"actr-{LATE_DAY}") for name in models(came))


def test_models_of_restated_days_are_kept_where_that_is_configured_and_their_predictions_are_not(
    nightly: dict[dt.date, Path], world: World, tmp_path: Path
) -> None:
    first, second = NIGHTS[:2]
    before, again, kept = nightly[first], nightly[second], copy(nightly[first], tmp_path)
    keep = ["--set", "training.restated=keep"]
    done = world.run(kept, second, second, *keep)
    assert done.code == 0, done.out + done.err
    assert models(before).items() <= models(kept).items()
    changed = {name for name, digest in digests(before).items() if digests(again)[name] != digest}
    assert {name.split("-")[0] for name in changed} >= {"tpm"}  # it reads rows that came late
    after = {row["date"]: row for row in rows(kept)}[first]
    assert after["impressions"] > rows(before)[0]["impressions"]
    named = ecdctr("plan", world.overlay, kept, "--from", str(second), "--to", str(second), *keep)
    assert "nothing is due" in named.out
    assert all(f"outdated {name}: {first} changed" in named.out for name in changed)
    due = ecdctr("plan", world.overlay, kept, "--from", str(second), "--to", str(second))
    assert all(any(name in line and f"again: {first}" in line for line in due.out.splitlines()) for name in changed)


def copy(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to / "root"))
