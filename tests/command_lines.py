"""The command lines of jobs that others start, as the real command reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from ecdctr_spark import cli
from ecdctr_spark.config import Config, load_config

_MINE = {"source": {"impressions": "/logs/impressions"}, "calendar": {"first_day": "2024-01-01"}}


def options(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The options of a command line by name. Raises click's UsageError for what the command does not know."""
    group: Any = typer.main.get_command(cli.app)
    parsed: dict[str, Any] = group.commands[command].make_context(command, list(arguments)).params
    return parsed


def configured(parsed: dict[str, Any], folder: Path) -> Config:
    """The configuration of a parsed command line, with an overlay as a user would write it in place of its own."""
    overlay = folder / "mine.yaml"
    overlay.write_text(yaml.safe_dump(_MINE))
    (named,) = parsed["conf"]
    assert named.endswith(".yaml"), named
    return load_config([overlay], parsed["set_"], parsed["method"])
