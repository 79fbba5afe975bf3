"""Before ranks start in executors, the executors' Python is asked whether it can run them."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import ecdctr_spark
from ecdctr_spark import executors
from ecdctr_spark.executors import check_executors, wait_for_slots
from ecdctr_spark.settings.base import ConfigError


def refused(spark: SparkSession, *modules: str) -> str:
    with pytest.raises(ConfigError) as error:
        check_executors(spark, modules)
    return str(error.value)


def starting(python: Path, code: str) -> str:
    """A Python of this environment that starts Spark's workers after some code of its own."""
    daemon = 'import runpy; runpy.run_module("pyspark.daemon", run_name="__main__")'
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}; {daemon}'\n")
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """The Python of this environment at another path."""
    (tmp_path / "environment").symlink_to(sys.prefix)
    return str(tmp_path / "environment" / "bin" / "python")


def test_the_same_environment_at_another_path_can_run_them(
    spark: SparkSession, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark.sparkContext, "pythonExec", elsewhere)
    check_executors(spark, ["torch", "pyarrow"])
    assert f"{elsewhere} on" in (said := refused(spark, "torch", "of_another_world"))
    assert "has no module of_another_world" in said


def test_a_python_that_is_not_there_is_named(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark.sparkContext, "pythonExec", "/nowhere/bin/python")
    assert 'Cannot run program "/nowhere/bin/python"' in refused(spark)


def test_another_minor_version_is_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark.sparkContext, "pythonVer", "3.9")  # the driver's
    said = refused(spark)
    assert "another Python than the driver" in said and "3.9" in said and "spark.pyspark.python" in said


def test_an_environment_without_the_package_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = starting(tmp_path / "python", 'import sys; sys.modules["ecdctr_spark"] = None')
    monkeypatch.setattr(spark.sparkContext, "pythonExec", without)
    said = refused(spark)
    assert "a Python package is missing" in said and "ecdctr_spark" in said


def test_other_code_of_the_package_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = ecdctr_spark.__path__
    shutil.copytree(source, tmp_path / "ecdctr_spark", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "ecdctr_spark" / "version.py").open("a") as module:
        module.write("# newer\n")
    changed = starting(tmp_path / "python", f'import sys; sys.path.insert(0, "{tmp_path}")')
    monkeypatch.setattr(spark.sparkContext, "pythonExec", changed)
    assert "has other code of ecdctr_spark" in refused(spark)


def test_slots_that_are_missing_are_waited_for_as_long_as_spark_is_configured_to(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert executors._patience(spark) == 30
    assert wait_for_slots(spark, 2) == 2
    monkeypatch.setattr(executors, "_patience", lambda spark: 2)
    started = time.monotonic()
    assert wait_for_slots(spark, 3) == 2
    assert 2 <= time.monotonic() - started < 30
    assert not spark.sparkContext.statusTracker().getActiveJobsIds()  # those that waited hold no slot


def test_executors_that_come_are_not_waited_for_any_longer(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0, 1, 1, 3, 3])
    monkeypatch.setattr(executors, "slots", lambda spark: next(found))
    assert wait_for_slots(spark, 3) == 3


def test_workers_are_told_the_credentials_and_have_a_wheel_of_py_files_on_their_path(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "the driver's")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the driver's")
    monkeypatch.setattr(executors, "archive", lambda: Path("/home/me/ecdctr_spark-1.whl"))
    monkeypatch.setattr(spark.sparkContext, "environment", {"PYTHONPATH": "theirs", "AWS_SESSION_TOKEN": "theirs"})
    for _ in range(2):  # of each command in this process
        executors.with_environment(spark)
    names = ["AWS_REGION", "AWS_SESSION_TOKEN", "PYTHONPATH"]
    ((region, token, path),) = (
        spark.sparkContext.parallelize(range(1), 1).map(lambda _: [os.environ[name] for name in names]).collect()
    )
    assert (region, token) == ("the driver's", "theirs")
    assert "ecdctr_spark-1.whl:theirs:" in path + ":" and path.count("ecdctr_spark-1.whl") == 1
