"""make mutants: changes one token at a time; the tests of the token's package must fail. A table, .bench/mutants.json,
and the changes that no test noticed.

Runs in an environment of its own, since cosmic-ray's packages are not those of the project (constraints/mutants.txt).
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from rich.console import Console

from tests.benchmarks.results import Result, at_least, plain, publish
from tests.mutants.drawn import Mutant, drawn, equivalent
from tests.mutants.judged import Copy, Judged, tests_of

PACKAGES = ("methods", "evaluation", "models", "streaming", "training", "features")
EQUIVALENT = Path("tests/mutants/equivalent.json")
_COPIES = Path(".bench/mutants/copies")
_WORKERS = 2
_SHARE = 0.95  # of the mutants that must be noticed


def main(number: int, seed: int) -> None:
    """Draws the mutants, tries them side by side, and publishes what became of them."""
    modules = sorted(module for package in PACKAGES for module in Path("ecdctr_spark", package).glob("*.py"))
    mutants, same = drawn(modules, number, seed), equivalent(EQUIVALENT)
    results = judged(mutants)
    survivors = [each.mutant for each in results if not each.killed_by]
    unnoticed = [mutant for mutant in survivors if mutant[:3] not in same]
    for module, line, changed, _ in unnoticed:
        Console().print(f"{module}\n  - {line}\n  + {changed}", highlight=False, markup=False)
    publish("mutants", table(results, len(survivors) - len(unnoticed)), ["cosmic-ray"])


def judged(mutants: list[Mutant]) -> list[Judged]:
    """All of them, by as many workers as this machine has cores, each with a copy of its own."""
    console, copies = Console(stderr=True), Queue[Copy]()
    for worker in range(_WORKERS):
        copies.put(Copy(_COPIES / str(worker)))

    def seconds(tests: str) -> float:
        copy = copies.get()
        try:
            return copy.seconds(tests)
        finally:
            copies.put(copy)

    def tried(mutant: Mutant) -> Judged:
        copy = copies.get()
        try:
            result = copy.judged(mutant, unchanged)
        finally:
            copies.put(copy)
        by = result.killed_by or "SURVIVED"
        console.print(f"{by}: {mutant.module}: {mutant.changed}", highlight=False, markup=False)
        return result

    every = sorted({tests for mutant in mutants for tests in tests_of(mutant.module)})
    with ThreadPoolExecutor(_WORKERS) as workers:
        unchanged = dict(zip(every, workers.map(seconds, every), strict=True))
        return list(workers.map(tried, mutants))


def table(results: list[Judged], same: int) -> list[Result]:
    """Killed mutants by package, and of all."""
    of = Counter(Path(each.mutant.module).parent.name for each in results)
    killed = Counter(Path(each.mutant.module).parent.name for each in results if each.killed_by)
    return [
        *(plain(f"{package}: killed", killed[package], f"of {of[package]}") for package in PACKAGES),
        plain("survived, and do the same as the module", same, "mutants"),
        at_least("killed by the tests of their package", killed.total(), f"of {len(results)}", _SHARE * len(results)),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
