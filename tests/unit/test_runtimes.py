"""What an installation does to a runtime's packages: the ranges of pyproject.toml accept them, and a check says so."""

from __future__ import annotations

from pathlib import Path

from tests.runtimes.packages import compared, parsed
from tests.unit.test_dependencies import requirements

DBR154 = parsed((Path(__file__).resolve().parents[2] / "constraints" / "dbr154.txt").read_text().splitlines())


def test_databricks_154_keeps_every_package_but_one_whose_reason_is_given() -> None:
    asked = requirements("petastorm", "horovod")
    refused = {
        name
        for name, version in DBR154.packages.items()
        if name in asked and not asked[name].specifier.contains(version)
    }
    assert refused == set()
    assert DBR154.replaced.keys() == {"deprecated"}  # which delta-rs asks for
    assert all(DBR154.replaced.values())


def test_only_delta_rs_msgspec_and_omegaconf_are_asked_for_that_databricks_154_lacks() -> None:
    spark = {"pyspark", "delta-spark"}  # not by pip there
    assert requirements("petastorm", "horovod").keys() - DBR154.packages.keys() - spark == {
        "deltalake",
        "msgspec",
        "omegaconf",
    }


def test_what_is_kept_added_and_replaced_is_told_apart() -> None:
    runtime = parsed(["# a comment", "numpy==1.23.5", "# deprecated==1.2.14: a reason", "", "ray==2.20.0"])
    assert runtime.packages == {"numpy": "1.23.5", "deprecated": "1.2.14", "ray": "2.20.0"}
    assert runtime.replaced == {"deprecated": "a reason"}
    installed = {"numpy": "1.23.5", "deprecated": "1.3.1", "omegaconf": "2.4", "pip": "26"}
    found = compared(runtime.packages, {"pip"}, installed)
    assert found.kept == ["numpy"]
    assert found.added == ["omegaconf"]
    assert found.replaced == {"deprecated": "1.2.14 by 1.3.1"}
