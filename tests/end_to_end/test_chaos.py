"""A slice of `make chaos`: kills and flips."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.chaos.damage import flipped, kinds
from tests.chaos.kills import Reference, killed, undisturbed
from tests.chaos.runs import Platform, prepared

pytestmark = [pytest.mark.end_to_end, pytest.mark.needs("horovod")]

KILLS, FLIPS = 8, 40


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return prepared(tmp_path_factory.mktemp("chaos"))


@pytest.fixture(scope="module")
def finished(platform: Platform) -> Path:
    return platform.overlay.parent / "finished"


@pytest.fixture(scope="module")
def reference(platform: Platform, finished: Path) -> Reference:
    """A run that is left alone."""
    return undisturbed(platform, finished)


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_left_alone(
    platform: Platform, reference: Reference, tmp_path: Path
) -> None:
    done = killed(platform, tmp_path / "root", reference, KILLS)
    assert len(done.kills) == KILLS
    assert done.ended > 0 and done.differing == []
    assert +done.faults == {}, done.kills


def test_a_flipped_bit_is_found_or_changes_nothing(finished: Path, reference: Reference, spark: SparkSession) -> None:
    done = flipped(kinds(finished, spark), FLIPS)
    assert [fault for flips in done for fault in flips.unseen] == []
    assert sum(flips.found for flips in done) > FLIPS / 4
