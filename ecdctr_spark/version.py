"""The code version: that of the installed package, and the commit of a checkout. No function here raises."""

from __future__ import annotations

import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]  # of the checkout, or site-packages
_GIT_SECONDS = 30


def installed_version() -> str:
    """The version in the metadata of the installed package; "unknown" if only its files are on the path."""
    try:
        return importlib.metadata.version("ecdctr_spark")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@cache
def code_version() -> str:
    """What is recorded with every model: the commit of the running checkout, else the installed version."""
    return commit(_ROOT) or installed_version()


def commit(root: Path) -> str | None:
    """The short hash of the commit checked out at `root`, with "+dirty" if a tracked file differs from it.

    None if `root` is no checkout, or git is missing or refuses to read it. Needs neither tags nor history.
    """
    if not (root / ".git").exists():  # a folder, or a file in a worktree: site-packages inside a checkout has neither
        return None
    describe = ["describe", "--always", "--exclude=*", "--dirty=+dirty"]
    command = ["git", "--no-optional-locks", "-C", str(root), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
