"""The notebooks run from a clean kernel, top to bottom, and show what they promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="nbclient is in the extra notebook")
import nbformat

from tests.miniature import PREDICTED
from tests.notebooks import NOTEBOOKS, executed

pytestmark = pytest.mark.end_to_end

DAY = str(PREDICTED[0])
SHOWS = {  # what outputs of each hold when it is run on tiny data
    "01_quickstart": (f"actr-{DAY}", "gauc_coverage"),
    "02_features_and_leakage": ("free → paid", "with the device"),
    "03_clocks_and_transfer": ("memory.user.query", "95 % interval"),
    "04_your_own_logs": ("source:", "gauc_coverage"),
}
ABSOLUTE = re.compile(r"(?<![\w.:/<~&-])/[A-Za-z][\w.-]*/")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_every_cell_runs(path: Path, overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CONF": overlay, "FIRST": DAY, "LAST": DAY, "EVENTS": 100}.items():
        monkeypatch.setenv(f"ECDCTR_{name}", str(value))
    shown = text_of(executed(path, tmp_path))
    assert not [text for text in SHOWS[path.stem] if text not in shown]


@each
def test_saved_outputs_are_of_one_run_and_show_plots(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = outputs_of(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@each
def test_saved_outputs_are_small_and_of_no_particular_machine(path: Path) -> None:
    assert path.stat().st_size < 400_000
    assert not ABSOLUTE.findall(text_of(nbformat.read(path, as_version=4)))


def outputs_of(notebook: nbformat.NotebookNode) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(notebook: nbformat.NotebookNode) -> str:
    """All that outputs show as text."""
    data = [output.get("data", {}) for output in outputs_of(notebook)]
    shown = [output.get("text", "") for output in outputs_of(notebook)]
    return "\n".join(shown + [text for forms in data for kind, text in forms.items() if kind.startswith("text/")])
