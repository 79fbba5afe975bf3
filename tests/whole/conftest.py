"""The platform in miniature that the tests here share with those end to end, and the time that they have."""

from __future__ import annotations

import os
import time

import pytest

from tests.end_to_end.conftest import logs, overlay

__all__ = ["logs", "overlay"]

UNTIL = float(os.environ.get("WHOLE_UNTIL", "inf"))  # seconds since the epoch


def pytest_runtest_setup() -> None:
    """CI has an hour for everything: from a moment on it begins no other of these tests."""
    if time.time() > UNTIL:
        pytest.skip("no time is left: make test-whole runs it")
