"""Builds the package from a copy of the checkout, which stays clean."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_COPIED = ("ecdctr_spark", "conf", "jobs", "pyproject.toml", "setup.py", "README.md")


def copy_source(folder: Path) -> None:
    """Copies what a wheel is made from to a new folder."""
    folder.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)


def build(kind: str, source: Path, out: Path) -> Path:
    """Builds a `wheel` or an `sdist` of a folder, without network; its path."""
    script = f"import setuptools.build_meta as backend; backend.build_{kind}({str(out)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built
