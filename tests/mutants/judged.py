"""Whether the tests of its package notice a mutant, tried in copies of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tests.mutants.drawn import Mutant

PYTHON = Path(".venv/bin/python").absolute()
_SLOWER = 3.0  # times what the tests take without a mutant: one that runs longer is in an endless loop
_LEAST_SECONDS = 60.0
# As tests/conftest.py, where the Spark session of a test run starts.
_ALONE = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


class Judged(NamedTuple):
    """A mutant, and the tests that failed; empty where it survived."""

    mutant: Mutant
    killed_by: str


class Copy:
    """A copy of the checkout's files, in which one mutant at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        for name in subprocess.check_output(["git", "ls-files", "-z"], text=True).split("\0")[:-1]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)

    def judged(self, mutant: Mutant, seconds: dict[str, float]) -> Judged:
        """Tries a mutant; `seconds` are those of the tests without one."""
        with self._changed(mutant):
            for tests in tests_of(mutant.module):
                if not self._passed(tests, _LEAST_SECONDS + _SLOWER * seconds[tests]):
                    return Judged(mutant, tests)
        return Judged(mutant, "")

    def seconds(self, tests: str) -> float:
        """What tests take without a mutant. Raises SystemExit where they fail."""
        started = time.monotonic()
        if not self._passed(tests, timeout=None):
            raise SystemExit(f"{tests} fails without a mutant")
        return time.monotonic() - started

    def _passed(self, tests: str, timeout: float | None) -> bool:
        command = [str(PYTHON), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, **_ALONE}
        with subprocess.Popen(command, cwd=self._folder, env=environment, start_new_session=True, **quiet) as process:
            try:
                return process.wait(timeout) == 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return False

    @contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[None]:
        place = self._folder / mutant.module
        before = place.read_text()
        place.write_text(mutant.code)
        try:
            yield
        finally:
            place.write_text(before)


@lru_cache
def tests_of(module: str) -> Sequence[str]:
    """The tests of a module's package, those of the module itself first, fast ones before those with Spark. Each is the
    arguments of one run of pytest."""
    _, package, name = Path(module).with_suffix("").parts[-3:]
    folders = [f"tests/{kind}/{package}" for kind in ("unit", "spark") if Path(f"tests/{kind}/{package}").is_dir()]
    own = [test for folder in folders if Path(test := f"{folder}/test_{name}.py").exists()]
    return (*own, *folders)
