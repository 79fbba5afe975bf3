"""The Databricks bundle: every job of every target is valid by Databricks' own types, and its command line by ours."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.bundles.jobs import Job

from ecdctr_spark.config import Config
from ecdctr_spark.methods.method import CLOCKS, Weekly
from tests.command_lines import configured, options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS: dict[str, Any] = {
    name: job
    for pattern in BUNDLE["include"]
    for path in sorted(ROOT.glob(pattern))
    for name, job in yaml.safe_load(path.read_text())["resources"]["jobs"].items()
}
CHOSEN = {"service_principal": "0a1b2c3d-app", "emails": ["ads@example.org"], "webhooks": [{"id": "w-1"}]}
CORES = 4  # of the default node type
_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def values(target: str, **chosen: Any) -> dict[str, Any]:
    """What `${...}` stands for in a target, with variables as --var chooses them."""
    user = {"workspace.current_user.userName": "ada@example.org", "workspace.current_user.short_name": "ada"}
    declared = {name: variable.get("default") for name, variable in BUNDLE["variables"].items()}
    variables = {**declared, **BUNDLE["targets"][target].get("variables", {}), **chosen}
    known = {f"var.{name}": value for name, value in variables.items() if value is not None}
    return {**user, "bundle.name": BUNDLE["bundle"]["name"], "bundle.target": target, **known}


def resolved(node: Any, known: Mapping[str, Any]) -> Any:
    """A node with its references replaced. Raises KeyError for one that stands for nothing."""
    if isinstance(node, dict):
        return {key: resolved(value, known) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, known) for value in node]
    if not isinstance(node, str) or not _REFERENCE.search(node):
        return node
    if whole := _REFERENCE.fullmatch(node):
        return resolved(known[whole[1]], known)
    return resolved(_REFERENCE.sub(lambda found: str(known[found[1]]), node), known)


def jobs(target: str, **chosen: Any) -> dict[str, Any]:
    """The jobs of a target as they are deployed."""
    assert "resources" not in BUNDLE["targets"][target], "merge the target's resources into the jobs here"
    known = values(target, **{**CHOSEN, **chosen})
    permissions = BUNDLE["targets"][target]["permissions"]
    return {name: resolved({**job, "permissions": permissions}, known) for name, job in JOBS.items()}


def command(job: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the job's only task, with the job's parameters as their defaults."""
    (task,) = job["tasks"]
    texts = {f"{{{{job.parameters.{each['name']}}}}}": each["default"] for each in job["parameters"]}
    name, *arguments = task["python_wheel_task"]["parameters"]
    for text, default in texts.items():
        arguments = [argument.replace(text, default) for argument in arguments]
    assert not any("{{" in argument for argument in arguments), arguments
    return options(name, arguments)


def at(cron: str) -> tuple[int, str]:
    """The hour of a Quartz expression, and its day of the week."""
    _, minute, hour, _, _, weekday = cron.split()
    assert minute == "0"
    return int(hour), weekday


@pytest.fixture(params=[(target, name) for target in BUNDLE["targets"] for name in JOBS], ids="-".join)
def job(request: pytest.FixtureRequest) -> dict[str, Any]:
    target, name = request.param
    deployed: dict[str, Any] = jobs(target)[name]
    return deployed


def test_databricks_accepts_each_job(job: dict[str, Any]) -> None:
    accepted = Job.from_dict(job)
    (task,), (cluster,) = accepted.tasks, accepted.job_clusters
    assert task.job_cluster_key == cluster.job_cluster_key
    assert accepted.permissions and accepted.email_notifications and accepted.webhook_notifications


@pytest.mark.parametrize(
    ("where", "planted"),
    [
        ((), {"max_concurent_runs": 1}),
        ((), {"max_concurrent_runs": "one"}),
        ((), {"permissions": [{"level": "CAN_DO", "group_name": "users"}]}),
        (("tasks", 0), {"retries": 2}),
        (("tasks", 0, "python_wheel_task"), {"entrypoint": "ecdctr"}),
        (("job_clusters", 0, "new_cluster"), {"data_security_mode": "SINGLE"}),
        (("job_clusters", 0, "new_cluster"), {"num_workers": "two"}),
        (("schedule",), {"timezone": "UTC"}),
        (("email_notifications",), {"on_failures": []}),
    ],
)
def test_databricks_would_refuse_a_mistake(where: tuple[str | int, ...], planted: dict[str, Any]) -> None:
    mistaken = jobs("prod")["daily"]
    node: Any = mistaken
    for part in where:
        node = node[part]
    node.update(planted)
    with pytest.raises((ValueError, TypeError)):
        Job.from_dict(mistaken)


def test_a_variable_without_a_value_is_not_deployed() -> None:
    for target in BUNDLE["targets"]:
        workspace = resolved(BUNDLE["targets"][target]["workspace"], values(target, **CHOSEN))
        assert workspace["root_path"].startswith("/Workspace/Users/")
    with pytest.raises(KeyError, match="service_principal"):
        resolved(BUNDLE["targets"]["prod"], values("prod"))
    with pytest.raises(KeyError, match=r"var\.nowhere"):
        resolved("${var.nowhere}", values("prod"))


def test_each_command_line_is_one_that_ecdctr_reads(job: dict[str, Any], tmp_path: Path) -> None:
    (task,) = job["tasks"]
    wheel = task["python_wheel_task"]
    assert (wheel["package_name"], wheel["entry_point"]) == (PROJECT["name"], next(iter(PROJECT["scripts"])))
    parsed = command(job)
    assert (parsed["from_"], parsed["to"]) == ("yesterday", "yesterday")
    config = configured(parsed, tmp_path)
    assert config.training.launcher == "spark"
    assert config.calendar.timezone == job["schedule"]["timezone_id"]
    assert config.tracking.uri == "databricks" and config.tracking.experiment.startswith("/")


@pytest.mark.parametrize("planted", ["--nonsense=1", "surplus"])
def test_a_misspelled_option_of_a_job_would_be_found(planted: str) -> None:
    mistaken = jobs("prod")["daily"]
    mistaken["tasks"][0]["python_wheel_task"]["parameters"].append(planted)
    with pytest.raises(Exception, match=planted.split("=")[0]):
        command(mistaken)


def test_a_day_is_run_again_by_the_job_parameter() -> None:
    daily = jobs("prod")["daily"]
    daily["parameters"][0]["default"] = "2024-07-01"
    assert (command(daily)["from_"], command(daily)["to"]) == ("2024-07-01", "2024-07-01")


def test_each_clock_has_one_job(tmp_path: Path) -> None:
    clocks = [configured(command(job), tmp_path).training.clocks for job in jobs("prod").values()]
    assert sorted(clock for chosen in clocks for clock in chosen) == sorted(CLOCKS)
    assert len(clocks) == len(CLOCKS)


@pytest.mark.parametrize("target", BUNDLE["targets"])
def test_everything_is_under_one_root_in_a_volume_or_where_a_variable_says(target: str, tmp_path: Path) -> None:
    roots = {configured(command(job), tmp_path).storage.root for job in jobs(target).values()}
    assert roots == {"/Volumes/main/ecdctr/files/" + {"dev": "dev-ada", "prod": "prod"}[target]}
    assert all("dbfs" not in str(job) for job in jobs(target).values())
    elsewhere = jobs(target, root="s3://bucket/ecdctr", timezone="Asia/Tokyo")["daily"]
    config = configured(command(elsewhere), tmp_path)
    assert (config.storage.root, config.calendar.timezone) == ("s3://bucket/ecdctr", "Asia/Tokyo")


def test_ranks_train_on_the_workers_of_a_cluster_that_lets_them(job: dict[str, Any], tmp_path: Path) -> None:
    cluster = job["job_clusters"][0]["new_cluster"]
    assert cluster["data_security_mode"] == "SINGLE_USER"
    ranks = configured(command(job), tmp_path).training.ranks
    assert ranks == cluster["num_workers"] * CORES


def test_a_newer_runtime_is_one_variable() -> None:
    newer = jobs("prod", runtime="16.4.x-cpu-ml-scala2.13").values()
    assert {job["job_clusters"][0]["new_cluster"]["spark_version"] for job in newer} == {"16.4.x-cpu-ml-scala2.13"}
    current = jobs("prod")["daily"]["job_clusters"][0]["new_cluster"]["spark_version"]
    assert current == "15.4.x-cpu-ml-scala2.12"


def test_one_run_at_a_time_ends_before_yesterday_is_another_day(job: dict[str, Any]) -> None:
    (task,) = job["tasks"]
    hour, _ = at(job["schedule"]["quartz_cron_expression"])
    assert job["max_concurrent_runs"] == 1
    assert hour * 3600 + job["timeout_seconds"] < 24 * 3600
    assert task["timeout_seconds"] <= job["timeout_seconds"] and task["max_retries"] > 0
    assert BUNDLE["targets"]["dev"]["presets"]["jobs_max_concurrent_runs"] == 1


def test_slower_clocks_come_first_on_the_day_after_their_levels_are_due(config: Config) -> None:
    cron = {name: job["schedule"]["quartz_cron_expression"] for name, job in JOBS.items()}
    hours = [at(cron[name])[0] for name in ("monthly", "weekly", "daily")]
    assert hours == sorted(set(hours))
    (weekday,) = {clock.weekday for clock in clocks(config) if isinstance(clock, Weekly)}
    assert at(cron["weekly"])[1] == _DAYS[(weekday + 1) % 7]
    assert cron["monthly"].split()[3] == "1"


def clocks(config: Config) -> Iterator[object]:
    return (level.clock for method in config.chosen for level in method.levels.values())
