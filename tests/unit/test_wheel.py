"""The package works where it is installed: a wheel carries the code, the settings, the jobs and the report's page."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("ecdctr_spark", "conf", "jobs", "pyproject.toml", "setup.py", "README.md")


def build(kind: str, source: Path, out: Path) -> Path:
    script = f"import setuptools.build_meta as backend; backend.build_{kind}({str(out)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """A wheel built from an sdist of a repository tagged v7.8: the files of the sdist are in no repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    (source / "conf" / "a_folder").mkdir()
    (source / "conf" / "a_folder" / "some.yaml").write_text("{}\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in ("init --quiet", "add .", "commit --quiet --message all", "tag v7.8"):
        subprocess.run(["git", *identity, *command.split()], cwd=source, check=True)
    shutil.unpack_archive(build("sdist", source, folder), folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", unpacked, folder)) as archive:
        yield archive


def files(folder: str) -> set[Path]:
    found = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path.parts}


def test_a_wheel_carries_every_module_page_setting_and_job(wheel: zipfile.ZipFile) -> None:
    beside = {"ecdctr_spark" / path for path in {*files("conf"), *files("jobs"), Path("conf/a_folder/some.yaml")}}
    packed = {path for path in map(Path, wheel.namelist()) if path.parts[0] == "ecdctr_spark"}
    assert packed == files("ecdctr_spark") | beside


def test_its_version_is_the_tag_in_git(wheel: zipfile.ZipFile) -> None:
    assert Path(wheel.filename or "").name.startswith("ecdctr_spark-7.8-")
