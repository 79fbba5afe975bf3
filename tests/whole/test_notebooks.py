"""The notebooks run from a clean kernel, top to bottom, and show what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="nbclient is in the extra notebook")

from tests.miniature import PREDICTED
from tests.notebooks import NOTEBOOKS, on_tiny_data

pytestmark = pytest.mark.end_to_end

SHOWS = {
    "01_quickstart": (f"actr-{PREDICTED[0]}", "gauc_coverage"),
    "02_features_and_leakage": ("free → paid", "with the device"),
    "03_clocks_and_transfer": ("memory.user.query", "95 % interval"),
    "04_your_own_logs": ("source:", "gauc_coverage"),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_tiny_data(path, overlay, tmp_path, monkeypatch)
    assert not [text for text in SHOWS[path.stem] if text not in shown]
