"""What the tests and the benchmarks are made of can be imported, also what only a target of hours or a GPU runs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
OWN = {"tests", "ecdctr_spark"}
MODULES = sorted(
    ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
    for path in TESTS.rglob("*.py")
    if not path.name.startswith(("test_", "__", "conftest"))
)


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported(name: str) -> None:
    try:
        import_module(name)
    except ModuleNotFoundError as error:  # of a package that another environment has
        if str(error.name).split(".")[0] in OWN:
            raise
        pytest.skip(str(error))
