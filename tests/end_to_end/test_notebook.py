"""The quick start runs from a clean kernel, top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.end_to_end.conftest import PREDICTED

pytestmark = pytest.mark.end_to_end

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_quickstart.ipynb"


def test_every_cell_of_the_quick_start_runs(overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = str(PREDICTED[0])
    for name, value in {"CONF": overlay, "FIRST": day, "LAST": day, "ROOT": tmp_path / "quickstart"}.items():
        monkeypatch.setenv(f"ECDCTR_{name}", str(value))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert f"actr-{day}" in shown
    assert "gauc_coverage" in shown


def test_its_saved_outputs_show_the_plots() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not any(output.output_type == "error" for output in outputs)
