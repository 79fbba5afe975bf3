"""Kills runs at random moments, and runs them again until they end: each must end as one that was left alone.

A run begins from an empty root, or from one where the logs are ingested, or the samples built: so kills fall as often
into trainings and predictions as into the long steps before them.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console

from tests.chaos.runs import ALL_DAYS, DAYS, Platform, begun, differences, gone, left, named, processes

_ENDS_SECONDS = 240.0  # within which a run must end once a part of it was killed
_FIRST = 0.2  # of a whole run's time, within which the first kill of a run comes
_LATER = 1.25  # times as long as before, for each next one, so that each run ends

Victims = Callable[[list[psutil.Process]], Iterable[psutil.Process]]
VICTIMS: dict[str, Victims] = {
    "everything": lambda found: found,
    "the driver": lambda found: found[:1],
    "the JVM": lambda found: named(found, "org.apache.spark.deploy.SparkSubmit"),
    "the launcher": lambda found: named(found, "horovod.runner.launch"),
    "a rank": lambda found: list(named(found, "ecdctr_spark.launching.rank"))[-1:],
}


class Kill(NamedTuple):
    """What was killed, how the run ended (its exit code, None where it did not), what it wrote to standard error, and
    whether all its processes ended in time."""

    victim: str
    code: int | None
    said: str
    gone: bool

    @property
    def lines(self) -> int:
        """The number of lines that it wrote."""
        return sum(bool(line.strip()) for line in self.said.splitlines())


class Kills(NamedTuple):
    """The kills, how many of the runs between which they fell ended, and of those that did not end as they should, what
    differs."""

    kills: list[Kill]
    ended: int
    differing: list[list[str]]

    @property
    def faults(self) -> Counter[str]:
        """What was wrong, by its kind."""
        found: Counter[str] = Counter()
        for kill in self.kills:
            found["did not end"] += kill.code is None
            found["left processes"] += not kill.gone
            # A driver that is killed says nothing, nor does one whose ranks were killed when they had no more to do.
            # Any other says what happened on one line.
            found["said more or less than one line"] += kill.lines != (kill.code not in (0, -signal.SIGKILL))
        return found


class Reference(NamedTuple):
    """What is left where nothing was disturbed, the seconds that it took, and roots from which runs begin."""

    left: dict[str, dict[str, object]]
    seconds: float
    beginnings: list[Path]


def undisturbed(platform: Platform, folder: Path) -> Reference:
    """Ingests, builds and runs under <folder>/finished, and keeps the root as it is before each in `folder`."""
    root, beginnings, seconds = folder / "finished", list[Path](), 0.0
    root.mkdir(parents=True)
    for command, days in (("ingest", ALL_DAYS), ("build", ALL_DAYS), ("run", DAYS)):
        beginnings.append(shutil.copytree(root, folder / f"before-{command}"))
        started = time.monotonic()
        alone = begun(platform, root, command, days)
        said = alone.communicate()
        assert alone.returncode == 0, "".join(said)
        seconds += time.monotonic() - started
    return Reference(left(root), seconds, beginnings)


def killed(platform: Platform, root: Path, reference: Reference, number: int, seed: int = 1) -> Kills:
    """Makes `number` kills, at moments and of victims that the seed chooses. A run that has ended is compared, and the
    next begins from a root that the seed chooses."""
    chance, console = random.Random(seed), Console(stderr=True)
    kills: list[Kill] = []
    ended, differing = 0, list[list[str]]()
    while len(kills) < number:
        shutil.copytree(beginning := chance.choice(reference.beginnings), root)
        within = _FIRST * reference.seconds
        while kill := _disturbed(platform, root, chance, within if len(kills) < number else None):
            kills.append(kill)
            within *= _LATER
            console.print(f"{len(kills)} of {number}: {kill}", highlight=False, markup=False)
        ended += 1
        if differs := differences(left(root), reference.left):
            differing.append(differs)
        console.print(f"a run from {beginning.name} ended; it differs in: {differs}", highlight=False, markup=False)
        shutil.rmtree(root)
    return Kills(kills, ended, differing)


def together(sides: Iterable[Kills]) -> Kills:
    """The kills of several platforms as one."""
    kills, ended, differing = zip(*sides, strict=True)
    return Kills([*chain(*kills)], sum(ended), [*chain(*differing)])


def _disturbed(platform: Platform, root: Path, chance: random.Random, within: float | None) -> Kill | None:
    """Runs, and kills something at a random moment within some seconds; None where the run has ended before."""
    run = begun(platform, root)
    try:
        run.communicate(timeout=chance.uniform(1.0, within) if within else _ENDS_SECONDS)
    except subprocess.TimeoutExpired:
        victim, chosen = _victim(processes(run), chance)
        for process in chosen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return _ended(platform, run, victim)
    assert run.returncode == 0, f"a run that was not killed failed with {run.returncode}"
    return None


def _victim(found: list[psutil.Process], chance: random.Random) -> tuple[str, list[psutil.Process]]:
    """One of the victims that are there at this moment."""
    there = {name: there for name, choose in VICTIMS.items() if (there := list(choose(found)))}
    name = chance.choice(sorted(there) or ["everything"])
    return name, there.get(name, [])


def _ended(platform: Platform, run: subprocess.Popen[str], victim: str) -> Kill:
    try:
        _, errors = run.communicate(timeout=_ENDS_SECONDS)
    except subprocess.TimeoutExpired:
        for process in processes(run):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        run.communicate()
        return Kill(victim, None, "", gone(platform))
    return Kill(victim, run.returncode, errors, gone(platform))
