"""Kills runs at random moments, and runs them again until they end: each must end as one that was left alone."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console

from tests.chaos.runs import Platform, begun, differences, gone, left, named, processes

_ENDS_SECONDS = 240.0  # within which a run must end once a part of it was killed

Victims = Callable[[list[psutil.Process]], Iterable[psutil.Process]]
VICTIMS: dict[str, Victims] = {
    "everything": lambda found: found,
    "the driver": lambda found: found[:1],
    "the JVM": lambda found: named(found, "org.apache.spark.deploy.SparkSubmit"),
    "the launcher": lambda found: named(found, "horovod.runner.launch"),
    "a rank": lambda found: list(named(found, "ecdctr_spark.launching.rank"))[-1:],
}


class Kill(NamedTuple):
    """What was killed, how the run ended (its exit code, None where it did not), how many lines it wrote to standard
    error, and whether all its processes ended in time."""

    victim: str
    code: int | None
    lines: int
    gone: bool


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
    """What a run leaves that was not disturbed, and the seconds that it took."""

    left: dict[str, dict[str, object]]
    seconds: float


def undisturbed(platform: Platform, root: Path) -> Reference:
    """Runs once from an empty root."""
    started = time.monotonic()
    run = begun(platform, root)
    said = run.communicate()
    assert run.returncode == 0, "".join(said)
    return Reference(left(root), time.monotonic() - started)


def killed(platform: Platform, root: Path, reference: Reference, number: int, seed: int = 1) -> Kills:
    """Makes `number` kills, at moments and of victims that the seed chooses. A run that has ended is compared, and the
    next begins from an empty root. A kill comes within half of the time that a run takes: each stage of it (ingest,
    build, training and predicting) takes less, so that it is passed in the end, and most are killed in first."""
    chance, console = random.Random(seed), Console(stderr=True)
    kills: list[Kill] = []
    ended, differing = 0, list[list[str]]()
    while len(kills) < number or root.exists():
        disturbed = len(kills) < number
        kill = _disturbed(platform, root, chance, reference.seconds / 2 if disturbed else None)
        if kill is not None:
            kills.append(kill)
            console.print(f"{len(kills)} of {number}: {kill}", highlight=False)
            continue
        ended += 1
        if differs := differences(left(root), reference.left):
            differing.append(differs)
        console.print(f"a run has ended; it differs from the one that was left alone in: {differs}", highlight=False)
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
        return Kill(victim, None, 0, gone(platform))
    return Kill(victim, run.returncode, len(list(_lines(errors))), gone(platform))


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.strip())
