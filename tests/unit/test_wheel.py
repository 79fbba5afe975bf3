"""The package works where it is installed: a wheel carries the code, the settings, the jobs and the report's page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecdctr_spark import shipped
from tests.wheels import ROOT, build, copy_source


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """A wheel built from an sdist of a repository tagged v7.8: the files of the sdist are in no repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    copy_source(source)
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


def test_it_works_as_it_is_a_zip_on_the_path(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """As one of spark-submit's --py-files."""
    script = """
        import sys
        from ecdctr_spark.cli import main
        from ecdctr_spark.config import CONF, load_config
        from ecdctr_spark.evaluation.report import Environment, PackageLoader
        from ecdctr_spark.shipped import archive
        assert str(archive()) == sys.argv[1], archive()
        assert load_config(["synthetic", "small"]).methods.keys() == {"ads_only", "ecdctr"}
        assert "logger.gateway" in (CONF / "log4j2.properties").read_text()
        assert Environment(loader=PackageLoader("ecdctr_spark", "evaluation")).get_template("report.html")
        main(["jobs", "--to", sys.argv[2]])
    """
    path = str(Path(wheel.filename or "").resolve())
    jobs = tmp_path / "jobs"
    command = [sys.executable, "-c", textwrap.dedent(script), path, str(jobs)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {job.name: job.read_bytes() for job in jobs.iterdir()} == {
        job.name: job.read_bytes() for job in (ROOT / "jobs").glob("*.py")
    }


def test_its_code_is_that_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    code = "from ecdctr_spark import shipped; print(shipped.digest())"
    env = {**os.environ, "PYTHONPATH": str(wheel.filename)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == shipped.digest()
