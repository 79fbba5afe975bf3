"""Runs notebooks from a clean kernel; `make notebooks` runs all of them and saves their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.miniature import PREDICTED

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells, run in `folder`. Raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=where, record_timing=False, coalesce_streams=True
    )
    client.execute()
    return notebook


def on_tiny_data(path: Path, overlay: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the notebook shows when it is run on the platform in miniature."""
    day = str(PREDICTED[0])
    for name, value in {"CONF": overlay, "FIRST": day, "LAST": day, "EVENTS": 100}.items():
        monkeypatch.setenv(f"ECDCTR_{name}", str(value))
    return text_of(executed(path, folder))


def outputs_of(notebook: nbformat.NotebookNode) -> list[Any]:
    """The outputs of all cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(notebook: nbformat.NotebookNode) -> str:
    """All that outputs show as text."""
    data = [output.get("data", {}) for output in outputs_of(notebook)]
    shown = [output.get("text", "") for output in outputs_of(notebook)]
    return "\n".join(shown + [text for forms in data for kind, text in forms.items() if kind.startswith("text/")])


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(executed(path, path.parent), path)
