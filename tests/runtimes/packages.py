"""Which packages of a runtime an installation of ecdctr_spark keeps, adds and replaces.

    packages.py runtime FILE < closure.txt    the pins of FILE for the packages of a resolution, as requirements
    packages.py check FILE BEFORE             compares this interpreter's packages; exit code 1 where one was replaced

FILE lists a runtime's packages as constraints (constraints/dbr154.txt). A comment of the form `# name==version: reason`
names a package that is replaced, and why: it is no constraint. BEFORE lists what was installed before (`pip freeze`).
Standard library only.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class Runtime(NamedTuple):
    """A runtime's packages, name to version, and why some of them are replaced, name to reason."""

    packages: dict[str, str]
    replaced: dict[str, str]


class Comparison(NamedTuple):
    """What became of a runtime's packages, as far as they are installed here."""

    kept: list[str]
    added: list[str]
    replaced: dict[str, str]  # name to both versions


def parsed(lines: Iterable[str]) -> Runtime:
    """The packages in the lines of a file of constraints."""
    packages, replaced = {}, {}
    for line in lines:
        if found := re.fullmatch(r"(?:# )?([\w.-]+)==([\w.+!]+)(?:: (.*))?", line.strip()):
            name = canonical(found[1])
            packages[name] = found[2]
            if line.startswith("#"):
                replaced[name] = found[3] or ""
    return Runtime(packages, replaced)


def compared(runtime: Mapping[str, str], before: Iterable[str], installed: Mapping[str, str]) -> Comparison:
    """What an installation made of a runtime, where packages named `before` were there already."""
    common = {name for name in installed if name in runtime}
    replaced = {
        name: f"{runtime[name]} by {installed[name]}" for name in sorted(common) if installed[name] != runtime[name]
    }
    return Comparison(sorted(common - replaced.keys()), sorted(installed.keys() - common - set(before)), replaced)


def canonical(name: str) -> str:
    """A package's name as the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(pins: Iterable[str]) -> set[str]:
    return {canonical(line.partition("==")[0].strip()) for line in pins if "==" in line}


def _needed(runtime: Runtime, closure: Iterable[str]) -> int:
    for name in sorted(_names(closure) & runtime.packages.keys()):
        print(f"{name}=={runtime.packages[name]}")
    return 0


def _check(runtime: Runtime, before: Iterable[str]) -> int:
    installed = {canonical(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}
    found = compared(runtime.packages, _names(before), installed)
    print(f"kept, {len(found.kept)} packages of the runtime: {', '.join(found.kept)}")
    print(f"added, {len(found.added)}: {', '.join(found.added)}")
    for name, versions in found.replaced.items():
        print(f"replaced: {name} {versions}: {runtime.replaced.get(name, 'NOT EXPECTED')}")
    return 1 if found.replaced.keys() - runtime.replaced.keys() else 0


if __name__ == "__main__":
    action, listed, *others = sys.argv[1:]
    pins = parsed(Path(listed).read_text(encoding="utf-8").splitlines())
    sys.exit(_needed(pins, sys.stdin) if action == "runtime" else _check(pins, Path(*others).read_text().splitlines()))
