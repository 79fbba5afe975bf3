"""The base of every node of the configuration: frozen, checked, no unknown keys; and the error for bad input."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, get_args
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A setting, argument or input that cannot be used. Its text is one line for the user (exit code 2)."""


class Settings(BaseModel):
    """Base of every node: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _timezone(name: str) -> str:
    if name not in available_timezones():
        nearest = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.0)[0]
        raise ValueError(f"no time zone {name}; the nearest known one is {nearest}")
    return name


Timezone = Annotated[str, AfterValidator(_timezone)]


def explained(error: ValidationError, node: type[BaseModel], where: str = "") -> str:
    """The first error of the node at `where` on one line: its key, and for an unknown key the nearest known one."""
    first = error.errors()[0]
    key = ".".join([*([where] if where else []), *(str(part) for part in first["loc"])])
    if first["type"] != "extra_forbidden":
        said = first["msg"].removeprefix("Value error, ")
        return f"{key}: {said}" if key else said
    known = sorted(_keys_beside(first["loc"], node))
    nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
    return f"unknown key {key}; the nearest known one is {nearest[0]}"


def _keys_beside(location: Sequence[int | str], root: type[BaseModel]) -> set[str]:
    """The keys that the node at an error's location may have."""
    nodes = {root}
    for part in location[:-1]:
        inside = {model for node in nodes if part in node.model_fields for model in _models(node, str(part))}
        nodes = inside or nodes  # a position in a list, a name in a mapping or a kind: still the same nodes
    return {key for node in nodes for key in node.model_fields}


def _models(node: type[BaseModel], field: str) -> set[type[BaseModel]]:
    """The classes of nodes in a field's type."""
    found, unseen = set(), [node.model_fields[field].annotation]
    while unseen:
        kind = unseen.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.add(kind)
        unseen += get_args(kind)
    return found
