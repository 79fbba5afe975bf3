"""`make docs`: the pages of the repository, all settings, tables and commands, and the docstrings, as HTML by pdoc."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import typer
from pdoc import doc, render
from typer.cli import get_docs_for_click

import ecdctr_spark
from ecdctr_spark.cli import app
from ecdctr_spark.reference import settings, tables

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ("README", "CLUSTERS", "TROUBLE", "CONTRIBUTING")  # files of the repository, .md
_PAGES = (*GUIDES, "settings", "tables", "commands")


def build(folder: Path) -> None:
    """Writes the pages into the folder; index.html is the README."""
    made = {"settings": settings.page(), "tables": tables.page(), "commands": commands_page()}
    made |= {name: (ROOT / f"{name}.md").read_text("utf-8") for name in GUIDES}
    modules = {name: _as_module(name, made[name]) for name in _PAGES}
    modules |= {module.__name__: doc.Module(module) for module in _package()}
    # pdoc looks up the types of a dataclass's __init__ in no module, and shows them as they are written.
    warnings.filterwarnings("ignore", "Error parsing type annotation")
    for name, module in modules.items():
        _write(folder / f"{name.replace('.', '/')}.html", render.html_module(module, modules))
    _write(folder / "index.html", (folder / "README.html").read_text("utf-8"))
    _write(folder / "search.js", render.search_index(modules))


def commands_page() -> str:
    """The reference of all commands and their options, as Markdown."""
    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="ecdctr")


def linked(text: str) -> str:
    """A page's text with its links to files of the repository as links to their pages: to the page of a guide, of a
    module or of the settings, or else to the file itself, seen from a folder in the repository."""
    return re.sub(r"\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)", lambda found: f"]({_target(found[1])}{found[2] or ''})", text)


def _target(file: str) -> str:
    path = Path(file)
    if path.suffix == ".md" and path.stem in GUIDES:
        return f"{path.stem}.html"
    if path.suffix == ".py" and path.parts[0] == "ecdctr_spark":
        return str(path.with_suffix(".html"))
    if path.parts[0] == "conf" and (path.stem == "base" or "methods" in path.parts):
        return "settings.html"
    return f"../{file}"


def _package() -> Iterator[ModuleType]:
    yield ecdctr_spark
    for found in pkgutil.walk_packages(ecdctr_spark.__path__, "ecdctr_spark."):
        yield importlib.import_module(found.name)


def _as_module(name: str, text: str) -> doc.Module:
    """A page as pdoc renders one: the docstring of a module."""
    menu = " · ".join(f"[{page}]({page}.html)" for page in (*_PAGES, "ecdctr_spark"))
    return doc.Module(ModuleType(name, f"{menu}\n\n{linked(text)}"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
