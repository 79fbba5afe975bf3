"""What every node of the configuration is: frozen, checked, and without unknown keys; and the error for bad input."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConfigError(ValueError):
    """A setting, command argument or input that cannot be used; its text is one line for the user (exit code 2)."""


class Settings(BaseModel):
    """Base of every node: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
