"""The base of every node of the configuration: frozen, checked, no unknown keys; and the error for bad input."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast, get_args
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A setting, argument or input that cannot be used. Its text is one line for the user (exit code 2)."""


class Settings(BaseModel):
    """Base of every node: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# The user and password of a URI; an Azure container (abfss://container@account) is neither.
_CREDENTIALS = re.compile(r"\b(?!abfss:)([a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_NAMED_SECRET = re.compile(r"\b((?:password|passwd|pwd|token|secret|api_?key|sig)=)[^&;\s'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with `***` in place of passwords and tokens in URIs, to be shown or stored."""
    return _NAMED_SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


def _timezone(name: str) -> str:
    if name not in available_timezones():
        nearest = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.0)[0]
        raise ValueError(f"no time zone {name}; the nearest known one is {nearest}")
    return name


Timezone = Annotated[str, AfterValidator(_timezone)]


def explained(error: ValidationError, node: type[BaseModel], where: str = "") -> str:
    """The first error of the node at `where` on one line: its key, and for an unknown key the nearest known one."""
    first = cast(dict[str, Any], error.errors()[0])
    key = ".".join([*([where] if where else []), *(str(part) for part in first["loc"])])
    if first["type"] != "extra_forbidden":
        said = _said(first)
        return f"{key}: {said}" if key else said
    known = sorted(_keys_beside(first["loc"], node))
    nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
    return f"unknown key {key}; the nearest known one is {nearest[0]}"


def _said(first: Mapping[str, Any]) -> str:
    """What is wrong with a value, with the value, in place of pydantic's words, which leave it out."""
    if first["type"] in ("value_error", "assertion_error"):
        return str(first["ctx"]["error"])
    found, context = first["input"], first.get("ctx", {})
    given = "null" if found is None else repr(found) if isinstance(found, str) else str(found)
    if first["type"] == "missing":
        return "is missing: set it"
    for kind, expected in _EXPECTED.items():
        if first["type"].startswith(kind):
            return f"{given} is {expected.format(**context)}"
    said = first["msg"].removeprefix("Input should be ")
    return f"{given} cannot be used: expected {said}"


# By the beginning of pydantic's name for an error.
_EXPECTED = {
    "int": "no whole number: give one, such as 2",
    "float": "no number: give one, such as 0.5",
    "finite_number": "no finite number: give one, such as 0.5",
    "bool": "neither true nor false: give one of them",
    "date": "no day: give one as YYYY-MM-DD",
    "string_type": "no text: give one, in quotes if it looks like a number",
    "string_pattern": "not of the form {pattern}",
    "literal_error": "unknown: expected {expected}",
    "enum": "unknown: expected {expected}",
    "union_tag_invalid": "unknown: expected one of {expected_tags}",
    "union_tag_not_found": "incomplete: set its key {discriminator}",
    "greater_than_equal": "too small: expected at least {ge}",
    "greater_than": "too small: expected more than {gt}",
    "less_than_equal": "too large: expected at most {le}",
    "less_than": "too large: expected less than {lt}",
    "too_short": "empty: give at least {min_length}",
    "tuple": "no list: give one, such as [a, b]",
    "list": "no list: give one, such as [a, b]",
    "dict": "no mapping: give its keys, such as {{key: value}}",
    "model": "no mapping: give its keys, such as {{key: value}}",
    "mapping": "no mapping: give its keys, such as {{key: value}}",
}


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
