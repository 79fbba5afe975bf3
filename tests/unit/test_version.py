"""A model's code version is the commit of the checkout that made it, else the installed version."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import ecdctr_spark
from ecdctr_spark import version


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "code.py").write_text("A = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_a_checkout_is_named_by_its_commit(checkout: Path) -> None:
    assert version.commit(checkout) == git(checkout, "rev-parse", "--short", "HEAD")


def test_a_tag_does_not_hide_the_commit(checkout: Path) -> None:
    git(checkout, "tag", "v1.0")
    assert version.commit(checkout) == git(checkout, "rev-parse", "--short", "HEAD")


def test_a_changed_file_is_named_dirty_and_a_new_one_is_not(checkout: Path) -> None:
    clean = version.commit(checkout)
    (checkout / "mine.yaml").write_text("{}\n")
    assert version.commit(checkout) == clean
    (checkout / "code.py").write_text("A = 2\n")
    assert version.commit(checkout) == f"{clean}+dirty"


def test_a_shallow_clone_and_a_worktree_are_checkouts(checkout: Path, tmp_path: Path) -> None:
    (checkout / "code.py").write_text("A = 3\n")
    git(checkout, "commit", "--quiet", "--all", "--message", "second")
    git(tmp_path, "clone", "--quiet", "--depth", "1", checkout.as_uri(), "shallow")
    git(checkout, "worktree", "add", "--quiet", "--detach", str(tmp_path / "worktree"))
    assert version.commit(tmp_path / "shallow") == version.commit(checkout) == version.commit(tmp_path / "worktree")


def test_a_folder_inside_another_checkout_is_none(checkout: Path) -> None:
    """As the site-packages of an environment inside a checkout."""
    (checkout / "site-packages").mkdir()
    assert version.commit(checkout / "site-packages") is None


def test_a_checkout_without_git_or_that_git_refuses_is_none(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert version.commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert version.commit(checkout) is None


def test_without_a_checkout_the_installed_version_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "_ROOT", tmp_path)
    assert version.code_version.__wrapped__() == version.installed_version() == ecdctr_spark.__version__


def test_files_on_the_path_that_were_never_installed_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert version.installed_version() == "unknown"
