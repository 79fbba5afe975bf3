"""The platform in miniature that the tests here share with those end to end, and the time that they have."""

from __future__ import annotations

import os
import time
from collections.abc import MutableSequence
from hashlib import sha256

import pytest

from tests.end_to_end.conftest import logs, overlay

__all__ = ["logs", "overlay"]

UNTIL = float(os.environ.get("WHOLE_UNTIL", "inf"))  # seconds since the epoch
ORDER = os.environ.get("WHOLE_ORDER")  # such as the name of a commit


def pytest_collection_modifyitems(items: MutableSequence[pytest.Item]) -> None:
    """In CI each commit has its own order of files, so that over some commits there is time for all of them."""
    if ORDER:
        items.sort(key=lambda item: sha256(f"{ORDER} {item.path.name}".encode()).hexdigest())


def pytest_runtest_setup() -> None:
    """CI has an hour for everything: from a moment on it begins no other of these tests."""
    if time.time() > UNTIL:
        pytest.skip("no time is left: make test-whole runs it")
