"""The quick start runs from a clean kernel, top to bottom, and shows what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="nbclient is in the extra notebook")

from tests.miniature import PREDICTED
from tests.notebooks import NOTEBOOKS, on_tiny_data

pytestmark = pytest.mark.end_to_end


def test_every_cell_runs(overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_tiny_data(NOTEBOOKS[0], overlay, tmp_path, monkeypatch)
    assert f"actr-{PREDICTED[0]}" in shown and "gauc_coverage" in shown
