"""The DAGs of Airflow submit command lines that ecdctr reads. Airflow itself is replaced by what it is asked for."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from ecdctr_spark.methods.method import CLOCKS
from tests.command_lines import configured, options

FILE = Path(__file__).resolve().parents[2] / "jobs" / "airflow_dag.py"


class Dag:
    """Remembers what it was made with, and the task that was made in it."""

    open: Dag

    def __init__(self, **made_with: Any) -> None:
        self.made_with, self.tasks = made_with, list[dict[str, Any]]()

    def __enter__(self) -> Dag:
        Dag.open = self
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Moment(dt.datetime):
    """Pendulum's, as far as a template needs it."""

    def in_timezone(self, name: str) -> Moment:
        return self.astimezone(ZoneInfo(name))

    def subtract(self, days: int) -> Moment:
        return self - dt.timedelta(days=days)

    def to_date_string(self) -> str:
        return self.date().isoformat()


@pytest.fixture
def dags(monkeypatch: pytest.MonkeyPatch) -> dict[str, Dag]:
    monkeypatch.setenv("ECDCTR_TIMEZONE", "Asia/Tokyo")
    package = "airflow.providers.apache.spark.operators.spark_submit"
    names = [package.rsplit(".", parts)[0] for parts in range(5, 0, -1)]
    modules: dict[str, Any] = {name: ModuleType(name) for name in (*names, package)}
    modules["airflow"].DAG = Dag
    modules[package].SparkSubmitOperator = lambda **made_with: Dag.open.tasks.append(made_with)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("airflow_dag", FILE)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return {name: dag for name, dag in vars(loaded).items() if isinstance(dag, Dag) and name != "dag"}


def parsed(dag: Dag, end: Moment) -> dict[str, Any]:
    """The options of the DAG's only task in the run whose data interval ends then."""
    templates = SandboxedEnvironment(undefined=StrictUndefined)
    (task,) = dag.tasks
    arguments = [templates.from_string(text).render(data_interval_end=end) for text in task["application_args"]]
    assert Path(task["application"]).name == "run.py" and (FILE.parent / "run.py").is_file()
    return options("run", arguments)


def test_each_clock_has_one_dag_whose_command_line_ecdctr_reads(dags: dict[str, Dag], tmp_path: Path) -> None:
    configs = [configured(parsed(dag, Moment.now(dt.timezone.utc)), tmp_path) for dag in dags.values()]
    assert sorted(clock for config in configs for clock in config.training.clocks) == sorted(CLOCKS)
    assert {config.calendar.timezone for config in configs} == {"Asia/Tokyo"}
    assert {name: dag.made_with["dag_id"] for name, dag in dags.items()} == {name: name for name in dags}


def test_a_run_is_for_the_day_before_its_interval_ends_in_the_calendars_time_zone(dags: dict[str, Dag]) -> None:
    for dag in dags.values():
        evening_before_in_utc = Moment(2024, 7, 31, 20, tzinfo=dt.timezone.utc)  # 5 in the morning of August 1 in Tokyo
        asked = parsed(dag, evening_before_in_utc)
        assert (asked["from_"], asked["to"]) == ("2024-07-31", "2024-07-31")


def test_ranks_fit_the_executors_and_no_two_runs_share_the_root(dags: dict[str, Dag], tmp_path: Path) -> None:
    for dag in dags.values():
        (task,) = dag.tasks
        ranks = configured(parsed(dag, Moment.now(dt.timezone.utc)), tmp_path).training.ranks
        assert ranks == task["num_executors"] * task["executor_cores"]
        assert task["pool"] == "ecdctr" and dag.made_with["max_active_runs"] == 1
        assert dag.made_with["catchup"] and dag.made_with["default_args"]["retries"] > 0
    order = sorted(dags, key=lambda name: -int(dags[name].tasks[0]["priority_weight"]))
    assert order == ["ecdctr_monthly", "ecdctr_weekly", "ecdctr_daily"]
