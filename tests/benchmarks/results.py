"""The output of every benchmark: a table on the terminal, and .bench/<name>.json with the machine it ran on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Result(NamedTuple):
    """A figure and its target, if it has one: at most `target` or at least, by `unit`."""

    name: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None


def at_most(name: str, value: float, unit: str, target: float) -> Result:
    return Result(name, value, unit, f"at most {target:g}", value <= target)


def at_least(name: str, value: float, unit: str, target: float) -> Result:
    return Result(name, value, unit, f"at least {target:g}", value >= target)


def plain(name: str, value: float, unit: str) -> Result:
    """A figure without a target."""
    return Result(name, value, unit)


def publish(benchmark: str, results: Sequence[Result], packages: Sequence[str], device: str = "") -> None:
    """Prints the table and writes the file; versions are those of `packages`, `device` is what the CPU commands."""
    grid = Table(*Result._fields)
    for result in results:
        met = {True: "yes", False: "NO", None: "-"}[result.met]
        digits = 2 if abs(result.value) >= 1 else 4  # a difference of GAUC is seen in the third
        grid.add_row(result.name, f"{result.value:,.{digits}f}", result.unit, result.target, met)
    Console(width=120).print(grid)
    about = {
        "machine": ", ".join(filter(None, [platform.machine(), f"{os.cpu_count()} cores", device])),
        "date": dt.date.today().isoformat(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
    folder = Path(".bench")
    folder.mkdir(exist_ok=True)
    rows = [{**result._asdict(), **about} for result in results]
    (folder / f"{benchmark}.json").write_text(json.dumps(rows, indent=2) + "\n")
