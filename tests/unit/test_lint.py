"""A commit is checked by what `make lint` runs, and so by what CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_hooks_of_pre_commit_are_the_commands_of_make_lint() -> None:
    (recipe,) = re.findall(r"^lint:.*\n\t@(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == recipe.replace("$(BIN)", ".venv/bin").split(" && ")
