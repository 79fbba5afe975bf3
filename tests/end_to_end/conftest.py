"""The platform in miniature that the tests here share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.miniature import write_logs, write_overlay


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its raw logs."""
    folder = tmp_path_factory.mktemp("logs")
    write_logs(folder)
    return folder


@pytest.fixture(scope="session")
def overlay(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration that reads them."""
    path = tmp_path_factory.mktemp("conf") / "miniature.yaml"
    write_overlay(path, logs)
    return path
