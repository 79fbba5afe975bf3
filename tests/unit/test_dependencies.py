"""What the package imports, what pyproject.toml asks for, what the constraints pin and what doctor accepts agree."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ecdctr_spark.doctor import OPTIONAL, PACKAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_IMPORTED = {"pandas", "pip", "psutil", "setuptools"}  # what Spark, MLflow and Petastorm import; pip is a command
# Of no use on the machines that tests run on: fbgemm-gpu must be made for the GPU machine's torch, adlfs is for Azure.
NOT_PINNED = {"adlfs", "fbgemm-gpu"}


def requirements(*extras: str) -> dict[str, Requirement]:
    """What the package and its extras ask for; a package that several name with the bounds of all."""
    project = PYPROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name in found:
            requirement.specifier &= found[name].specifier
        found[name] = requirement
    return found


def pins(file: str = "constraints.txt") -> dict[str, set[str]]:
    """The versions of each package: several where they differ by Python's version."""
    found = defaultdict(set)
    for line in (ROOT / "constraints" / file).read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            assert requirement.url is None, line
            found[canonicalize_name(requirement.name)].add(pin.version)
    return found


def imported() -> set[str]:
    """The top-level modules that ecdctr_spark imports, those of Python and its own apart."""
    nodes = [
        node for path in (ROOT / "ecdctr_spark").rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"ecdctr_spark"}


def distributions(modules: set[str]) -> dict[str, set[str]]:
    """The installed distributions that each module may come from."""
    owners = importlib.metadata.packages_distributions()
    return {module: {canonicalize_name(name) for name in owners.get(module, ())} for module in modules}


@pytest.mark.parametrize("package", [*PACKAGES, *OPTIONAL])
def test_doctor_accepts_exactly_the_range_of_pyproject(package: str) -> None:
    lowest, below = (PACKAGES | OPTIONAL)[package][:2]
    asked = requirements("local") | {name: requirements(name)[name] for name in OPTIONAL}
    assert asked[package].specifier == SpecifierSet(f">={lowest},<{below}" if below else f">={lowest}")


def test_every_pin_lies_within_the_range_of_pyproject() -> None:
    asked = requirements(*PYPROJECT["project"]["optional-dependencies"])
    asked |= {canonicalize_name(build.name): build for build in map(Requirement, PYPROJECT["build-system"]["requires"])}
    pinned = pins()
    assert asked.keys() - pinned.keys() == NOT_PINNED
    outside = {
        name: version
        for name, requirement in asked.items()
        for version in pinned[name]
        if not requirement.specifier.contains(version)
    }
    assert outside == {}


@pytest.mark.needs("fbgemm_gpu", "horovod", "petastorm")
def test_every_import_is_declared_and_every_dependency_imported() -> None:
    declared = requirements(*PYPROJECT["project"]["optional-dependencies"]).keys()
    owners = distributions(imported())
    assert {module for module, names in owners.items() if not names & declared} == set()
    assert requirements("local", "petastorm", "horovod").keys() - set().union(*owners.values()) == NOT_IMPORTED


def test_mypy_makes_exceptions_only_for_what_is_imported() -> None:
    (override,) = PYPROJECT["tool"]["mypy"]["overrides"]
    assert {module.removesuffix(".*") for module in override["module"]} <= imported()
