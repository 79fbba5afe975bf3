"""What the package consists of: its code, its settings (conf/) and its spark-submit entry points (jobs/).

conf/ and jobs/ are inside the package in a wheel, and beside it in a checkout. A wheel may be imported as it is, as one
of `--py-files`: its files then have no paths, so they are read by `importlib.resources`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable

_PACKAGE = "ecdctr_spark"


def folder(name: str) -> Traversable:
    """The folder `conf` or `jobs`."""
    installed = files(_PACKAGE).joinpath(name)
    return installed if installed.is_dir() else Path(__file__).resolve().parents[1] / name


def archive() -> Path | None:
    """The zip file that the package is imported from; None where it is imported from a folder."""
    place = Path(__file__).parents[1]
    return place if place.is_file() else None


def digest() -> str:
    """A hash of the package's modules: equal on two machines that run the same code, however it got there."""
    code = hashlib.sha256()
    for name, module in sorted(_modules("", files(_PACKAGE))):
        content = module.read_bytes()
        code.update(f"{name} {len(content)}\n".encode() + content)
    return code.hexdigest()


def _modules(name: str, place: Traversable) -> Iterator[tuple[str, Traversable]]:
    for entry in place.iterdir():
        path = f"{name}/{entry.name}"
        if entry.is_dir() and path != "/jobs":  # beside the package in a checkout
            yield from _modules(path, entry)
        elif entry.name.endswith(".py"):
            yield path, entry
