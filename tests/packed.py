"""A Python environment in an archive, as venv-pack makes one: what executors unpack beside them (CLUSTERS.md)."""

from __future__ import annotations

import io
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HERE = Path(sysconfig.get_path("purelib"))
_THERE = _HERE.relative_to(sys.prefix)
_TORCH = ("cuda", "nvidia", "torch", "torchgen", "triton")  # by links: 5 GB, of which Spark would make eight copies
_SPARKS = {"delta-spark", "py4j", "pyspark"}  # what Spark brings itself


def pack(wheel: Path, python: str, archive: Path) -> None:
    """Writes an archive, NAME.tar.gz, of a virtual environment with the wheel and what it needs to train (the extras
    petastorm and horovod), as it is installed here. `python` is a script, which becomes bin/python."""
    with tarfile.open(archive, "w:gz", compresslevel=0) as tar, ZipFile(wheel) as package:
        _link(tar, Path("bin", "python3"), Path(sys.executable).resolve())
        tar.add(Path(sys.prefix, "pyvenv.cfg"), "pyvenv.cfg")
        _write(tar, Path("bin", "python"), python, 0o755)
        for name in package.namelist():
            _write(tar, _THERE / name, package.read(name).decode(), 0o644)
        for name in _TORCH:
            _link(tar, _THERE / name, _HERE / name)
        for each in _needed({}, Requirement("ecdctr_spark[petastorm,horovod]")).values():
            for file in _files(each):
                tar.add(_HERE / file, _THERE / file)


def _needed(found: dict[str, Distribution], asked: Requirement) -> dict[str, Distribution]:
    """Adds what a requirement asks for to what was found, by name."""
    for requirement in map(Requirement, distribution(asked.name).requires or ()):
        name, marker = canonicalize_name(requirement.name), requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *asked.extras)):
            continue
        if name not in found and name not in _SPARKS:
            found[name] = distribution(name)
            _needed(found, requirement)
    return found


def _files(installed: Distribution) -> Iterator[Path]:
    for file in map(Path, installed.files or ()):
        if file.parts[0] not in {*_TORCH, ".."} and (_HERE / file).is_file():  # not its commands in bin/
            yield file


def _link(tar: tarfile.TarFile, name: Path, to: Path) -> None:
    link = tarfile.TarInfo(str(name))
    link.type, link.linkname = tarfile.SYMTYPE, str(to)
    tar.addfile(link)


def _write(tar: tarfile.TarFile, name: Path, content: str, mode: int) -> None:
    file = tarfile.TarInfo(str(name))
    file.size, file.mode = len(content.encode()), mode
    tar.addfile(file, io.BytesIO(content.encode()))
