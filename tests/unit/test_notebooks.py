"""The notebooks as they are saved: what they call exists, and their outputs are of one run and small."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="nbclient is in the extra notebook")
import nbformat

from tests.notebooks import NOTEBOOKS, outputs_of, text_of

ABSOLUTE = re.compile(r"(?<![\w.:/<~&-])/[A-Za-z][\w.-]*/")

WRITERS = ("run.run", "run.run_counted", "steps.train", "steps.predict")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_what_cells_import_and_call_is_there(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    parsed = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    imported = {}
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ecdctr_spark"):
            imported |= {alias.name: found(node.module, alias.name) for alias in node.names}
    assert imported
    for node in ast.walk(parsed):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            assert hasattr(imported[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


@each
def test_what_writes_to_a_root_that_others_may_write_to_holds_the_lease(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    parsed = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    leased = [
        node for node in ast.walk(parsed) if isinstance(node, ast.With) and "lease(" in ast.unparse(node.items[0])
    ]
    held = {id(inner) for block in leased for inner in ast.walk(block)}
    writing = [node for node in ast.walk(parsed) if isinstance(node, ast.Call) and ast.unparse(node.func) in WRITERS]
    assert [ast.unparse(call) for call in writing if id(call) not in held] == []


def found(package: str, name: str) -> object:
    """What a module defines, or a module of a package."""
    module = import_module(package)
    return getattr(module, name) if hasattr(module, name) else import_module(f"{package}.{name}")


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
