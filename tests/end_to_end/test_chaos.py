"""A slice of `make chaos`: kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kills import killed, undisturbed
from tests.chaos.runs import prepared

pytestmark = [pytest.mark.end_to_end, pytest.mark.needs("horovod")]

KILLS = 8


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_left_alone(tmp_path: Path) -> None:
    platform = prepared(tmp_path)
    reference = undisturbed(platform, tmp_path / "undisturbed")
    done = killed(platform, tmp_path / "root", reference, KILLS)
    assert len(done.kills) == KILLS
    assert done.ended > 0 and done.differing == []
    assert +done.faults == {}, done.kills
