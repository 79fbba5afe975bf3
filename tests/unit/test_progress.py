"""Long work shows rows/s, tasks and time left on a terminal, a line per step elsewhere, and nothing when silent."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from ecdctr_spark import progress
from ecdctr_spark.events import as_json
from ecdctr_spark.progress import Reporter, Tasks


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK", 0.01)
    monkeypatch.setattr(progress, "_REPORT", 0.02)


class Spark:
    """Answers with these tasks, one after the other and then the last, and counts the questions."""

    def __init__(self, *answers: Tasks | None) -> None:
        self.answers, self.asked = list(answers), 0
        self.heard = threading.Event()

    def __call__(self) -> Tasks | None:
        self.asked += 1
        if self.asked > len(self.answers):
            self.heard.set()
        return self.answers[min(self.asked, len(self.answers)) - 1]


def terminal(text: io.StringIO) -> Console:
    return Console(file=text, force_terminal=True, width=140, color_system=None, legacy_windows=False)


def events(stream: io.StringIO, name: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == name]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    text = io.StringIO()
    with as_json(text):
        yield text


def test_a_step_without_a_terminal_is_one_line_and_asks_spark_nothing() -> None:
    text, spark = io.StringIO(), Spark(Tasks(1, 1, 2, 3))
    with Reporter(Console(file=text, width=140), 2, spark) as reporter, reporter.step("build") as update:
        time.sleep(0.05)
        update(1200, "5 duplicates")
    assert re.fullmatch(r"  1/2  build +0\.\d s +1,200 rows +[\d,]+ rows/s  5 duplicates\n", text.getvalue())
    assert spark.asked == 0


def test_a_silent_step_shows_nothing_even_on_a_terminal() -> None:
    text, spark = io.StringIO(), Spark(Tasks(1, 1, 2, 3))
    console = Console(file=text, force_terminal=True, quiet=True)
    with Reporter(console, 2, spark) as reporter, reporter.step("build") as update:
        time.sleep(0.05)
        update(1200)
    assert (text.getvalue(), spark.asked) == ("", 0)


def test_a_step_on_a_terminal_shows_the_tasks_and_rows_of_sparks_job() -> None:
    text, spark = io.StringIO(), Spark(None, Tasks(7, 3, 80, 0), Tasks(7, 12, 80, 5_000))
    with Reporter(terminal(text), 2, spark) as reporter, reporter.step("build"):
        assert spark.heard.wait(10)
        reporter._bars.refresh()
    assert "12/80" in text.getvalue()
    assert re.search(r"tasks of Spark's job 7, 5,000 rows/s", text.getvalue())


def test_on_a_narrow_terminal_names_are_cut_and_counts_and_times_are_not() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, color_system=None, legacy_windows=False)
    with Reporter(console, 12) as reporter, reporter.step("train ads_only-2000-12-12-e0b987a3") as update:
        update(1_000_000, "loss 0.6281, 1 rank", 20_000_000)
        update(10_000_000, "loss 0.6281, 1 rank", 20_000_000)
        reporter._bars.refresh()
    assert re.search(r"train .*… .* 10000000/20000000 .* \d:\d\d:\d\d\s", text.getvalue())


def test_rows_that_a_step_reports_itself_go_before_sparks_tasks() -> None:
    text, spark = io.StringIO(), Spark(Tasks(7, 3, 80, 0))
    with Reporter(terminal(text), 2, spark) as reporter, reporter.step("train") as update:
        assert spark.heard.wait(10)
        update(500, "loss 0.5", 4_000)
        asked = spark.asked
        time.sleep(0.05)
        reporter._bars.refresh()
    assert "500/4000" in text.getvalue()
    assert re.search(r"[\d,]+ rows/s loss 0.5", text.getvalue())
    assert spark.asked <= asked + 1


def test_the_time_left_follows_from_the_tasks_that_are_done() -> None:
    spark = Spark(*(Tasks(7, done, 80, 0) for done in range(1, 40)))
    with Reporter(terminal(io.StringIO()), 1, spark) as reporter, reporter.step("build"):
        assert spark.heard.wait(10)
        (bar,) = (task for task in reporter._bars.tasks if task.description == "build")
        assert bar.time_remaining is not None


def test_machines_hear_of_start_progress_and_end(stream: io.StringIO) -> None:
    spark = Spark(Tasks(7, 3, 80, 40))
    with Reporter(Console(quiet=True), 3, spark) as reporter, reporter.step("build") as update:
        assert spark.heard.wait(10)
        update(50, "quarter", 200)
        time.sleep(0.03)
        update(100, "half", 200)
        update(200, "all", 200)
    (started,) = events(stream, "step started")
    assert (started["step"], started["number"], started["steps"]) == ("build", 1, 3)
    first, *_, rows = events(stream, "step progress")
    assert (first["spark_job"], first["tasks_done"], first["tasks"], first["rows_per_second"]) == (7, 3, 80, 40)
    assert (rows["rows"], rows["total"], rows["note"]) == (100, 200, "half")
    (finished,) = events(stream, "step finished")
    assert (finished["rows"], finished["note"], finished["number"]) == (200, "all", 1)
    assert finished["seconds"] > 0 and finished["rows_per_second"] > 0


def test_a_step_that_fails_says_so_and_is_not_counted(stream: io.StringIO) -> None:
    text = io.StringIO()
    with Reporter(Console(file=text), 3) as reporter:
        with pytest.raises(RuntimeError), reporter.step("train"):
            raise RuntimeError("a rank died")
        with reporter.step("predict"):
            pass
        assert "train" not in [task.description for task in reporter._bars.tasks]
    (failed,) = events(stream, "step failed")
    assert (failed["step"], failed["error"]) == ("train", "RuntimeError")
    assert text.getvalue().startswith("  1/3  predict")
