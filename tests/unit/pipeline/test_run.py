"""What a run reports of what went wrong in it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ecdctr_spark.config import load_config
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline import run as running
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import STEPS
from ecdctr_spark.tables.small import read_rows
from tests.sessions import UNUSED

DAY = dt.date(2024, 3, 5)
SETTINGS = ["calendar.first_day=2024-02-28", "training.launcher=inline", "training.ranks=1"]


@pytest.mark.parametrize(
    ("failed", "error", "said"),
    [
        ({"cpm-1": "cpm failed: why"}, RuntimeError, r"^cpm failed: why; actr cannot start$"),
        ({}, ConfigError, r"^actr cannot start$"),
    ],
)
def test_a_level_that_failed_is_reported_where_another_cannot_start_without_it(
    failed: dict[str, str], error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(run: running.Run, *kinds: type) -> None:
        if running.Training in kinds:
            run.failed.update(failed)
            raise ConfigError("actr cannot start")

    monkeypatch.setattr(running, "_carry_out", fails)
    store: Any = SimpleNamespace(root=Root.parse(tmp_path), session=UNUSED)
    with pytest.raises(error, match=said):
        running.run(store, load_config([], SETTINGS), DAY, DAY, Console(quiet=True))


def test_a_day_without_ads_is_entered_also_where_nothing_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is due once it has ads, also where the run that found it without was killed before it could say so."""
    monkeypatch.setattr(running, "plan", lambda *given: ())
    monkeypatch.setattr(running, "_conclude", lambda *given: None)
    root, config = Root.parse(tmp_path), load_config([], SETTINGS)
    registry.record_ingest(root, config, [], [DAY])  # its logs are not there
    store: Any = SimpleNamespace(root=root, session=UNUSED)
    for _ in range(2):
        assert running.run(store, config, DAY, DAY, Console(quiet=True)) == ()
        entered = [(row["from_day"], row["to_day"]) for row in read_rows(root, STEPS) if row["step"] == registry.NO_ADS]
        assert set(entered) == {(DAY, DAY)}
    assert len(entered) == len({row["subject"] for row in read_rows(root, STEPS) if row["step"] == registry.NO_ADS})
