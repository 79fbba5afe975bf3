"""make chaos: kills, damage, two runs at once, a full disk and bad rows; a table, and .bench/chaos.json."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ecdctr_spark.session import spark_session
from tests.benchmarks.results import Result, at_least, at_most, plain, publish
from tests.chaos.company import bad_rows, full_disk, two_at_once
from tests.chaos.damage import flipped, kinds
from tests.chaos.kills import VICTIMS, Reference, killed, together, undisturbed
from tests.chaos.runs import Platform, prepared, shares

T = TypeVar("T")

_SIDES = 2  # platforms that are killed side by side, as most of a run is work of one core
_BAD_ROWS = 1000
_SMALL_DISKS = (2, 6)  # megabytes


def main(kills: int, flips: int) -> None:
    """Everything, in folders of its own."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        sides = [Path(place, str(side)) for side in range(_SIDES)]
        platforms = [prepared(side) for side in sides]
        references = at_once(undisturbed, platforms, [side / "undisturbed" for side in sides])
        # The kills come last: they take nearly all of the time.
        rows = [
            *of_damage(sides[0] / "undisturbed/finished", flips),
            *of_company(platforms[0], sides[0], references[0]),
            *of_kills(platforms, [side / "root" for side in sides], references, kills),
        ]
    publish("chaos", rows, ["pyspark", "delta-spark", "torch"])


def at_once(function: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """What a function returns on each side, all at once."""
    with ThreadPoolExecutor(_SIDES) as sides:
        return list(sides.map(function, *arguments))


def of_kills(
    platforms: Sequence[Platform], roots: Sequence[Path], references: Sequence[Reference], number: int
) -> list[Result]:
    """Makes `number` kills, shared among the sides."""
    done = together(at_once(killed, platforms, roots, references, shares(number, _SIDES), range(_SIDES)))
    by_victim = [plain(f"kills: {name}", sum(kill.victim == name for kill in done.kills), "kills") for name in VICTIMS]
    return [
        plain("ingest, build and run, left alone", references[0].seconds, "s"),
        *by_victim,
        at_least("kills", len(done.kills), "kills", number),
        at_most(f"of {done.ended} runs that ended: not as those that were left alone", len(done.differing), "runs", 0),
        *(at_most(f"kills after which a run {fault}", count, "kills", 0) for fault, count in done.faults.items()),
    ]


def of_damage(root: Path, number: int) -> list[Result]:
    """Flips, shared among the kinds of files."""
    spark = spark_session("local[2]", "2g")
    done = flipped(kinds(root, spark), number)
    spark.stop()
    return [
        *(
            plain(f"flips found: {flips.kind}", flips.found, f"of {flips.found + flips.without_effect}")
            for flips in done
        ),
        at_most(
            "flips that were neither found nor without effect", sum(len(flips.unseen) for flips in done), "flips", 0
        ),
    ]


def of_company(platform: Platform, folder: Path, reference: Reference) -> list[Result]:
    """Whether each ends as it should: 1 for yes."""
    alone = two_at_once(platform, folder / "two", reference)
    shutil.rmtree(folder / "two")
    good = bad_rows(platform, folder / "bad", _BAD_ROWS)
    disks = {size: full_disk(platform, folder / f"disk-{size}", reference, size) for size in _SMALL_DISKS}
    return [
        at_least("two runs at once: one is refused in one line", alone, "yes", 1),
        at_least(f"{_BAD_ROWS:,} bad rows: all in quarantine", good, "yes", 1),
        *(
            at_least(f"a disk of {size} MB: one line, then resumed", ended, "yes", 1)
            for size, ended in disks.items()
            if ended is not None
        ),
    ]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
