"""The package works where it is installed: a wheel carries the settings and the report's page."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_wheel_carries_every_module_setting_and_page(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("ecdctr_spark", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {Path(name) for name in wheel.namelist()}
    package = {path.relative_to(ROOT) for path in (ROOT / "ecdctr_spark").rglob("*") if path.suffix in (".py", ".html")}
    settings = {Path("ecdctr_spark/conf") / path.name for path in (ROOT / "conf").iterdir()}
    assert package | settings <= packed
