"""The base of every node of the configuration: frozen, checked, no unknown keys; and the error for bad input."""

from __future__ import annotations

import datetime as dt
import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from zoneinfo import available_timezones

import msgspec
from msgspec import Meta, UnsetType


class ConfigError(ValueError):
    """A setting, argument or input that cannot be used. Its text is one line for the user (exit code 2)."""


class SettingError(ConfigError):
    """A setting that cannot be used. Raised by a node's own checks, its text begins with the setting's key."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every node: frozen, and an unknown key is an error.

    Types and limits are checked where a node is made from data (`parsed`), and what a node's `__post_init__` asks for
    wherever it is made: it raises SettingError for one of its settings, ValueError for several that exclude each other.
    """

    @classmethod
    def unknown_key(cls, key: str, where: str) -> str:
        """What is wrong with a key that the node at `where` does not have."""
        return f"unknown key {_at(where, key)}; the nearest known one is {nearest(key, _keys(cls))}"


Node = TypeVar("Node", bound=Settings)


def about(text: str) -> Meta:
    """What a setting is for, in the reference of all settings."""
    return Meta(description=text)


Positive = Annotated[int, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
PositiveNumber = Annotated[float, Meta(gt=0)]
NotNegativeNumber = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]


def check_timezone(timezone: str) -> None:
    """Raises SettingError for the setting `timezone` of a node, with the nearest known one."""
    if timezone not in _timezones():
        known = nearest(timezone, _timezones())
        raise SettingError(f"timezone: no time zone {timezone}; the nearest known one is {known}")


@cache
def _timezones() -> set[str]:
    return available_timezones()  # which reads hundreds of files each time


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like another one."""
    return difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.0)[0]


def plain(node: Settings | None, *without: str) -> Any:
    """The node as JSON has it: mappings, lists, texts, numbers and null. Left out are the settings `without`."""
    data = msgspec.json.decode(msgspec.json.encode(node))
    return {key: value for key, value in data.items() if key not in without} if without else data


def parsed(kind: type[Node], data: Any, where: str = "") -> Node:
    """The data as a node of this class. Raises SettingError with one line that names the first setting at fault below
    the key `where`, its value and what was expected; for an unknown key the nearest known one."""
    try:
        node = msgspec.convert(data, kind, strict=False)  # a number may be quoted, as one of the environment is
    except msgspec.ValidationError as error:
        raise SettingError(_fault(data, kind, where) or str(error)) from error
    for key, number in _numbers(msgspec.to_builtins(node), where):
        if not math.isfinite(number):
            raise SettingError(f"{key}: {number} is no finite number: give one, such as 0.5")
    return node


def _numbers(data: Any, where: str) -> Iterator[tuple[str, float]]:
    """The floats of plain data, with their keys."""
    if isinstance(data, float):
        yield where, data
    for key, value in _entries(data):
        yield from _numbers(value, _at(where, key))


def _entries(data: Any) -> Iterable[tuple[object, Any]]:
    """What is in a mapping, by key, or in a list, by name where it has one, else by position."""
    if isinstance(data, Mapping):
        return data.items()
    named = enumerate(data) if isinstance(data, list | tuple) else ()
    return [(each.get("name", place) if isinstance(each, Mapping) else place, each) for place, each in named]


def _at(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def choices(kind: Any) -> list[tuple[Any, list[Meta]]]:
    """The types that a value of a setting's type may have, each with what is said of it and its limits."""
    bare, *metas = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if get_origin(bare) not in (Union, UnionType):
        return [(bare, metas)]
    inside = [choice for each in get_args(bare) if each is not UnsetType for choice in choices(each)]
    return [(choice, [*own, *metas]) for choice, own in inside]


def bounds(meta: Meta, names: Iterable[str]) -> dict[str, Any]:
    """The limits that are set, of those with these names (gt, ge, lt, le, min_length, max_length, pattern)."""
    found = {name: getattr(meta, name) for name in names}
    return {name: bound for name, bound in found.items() if bound is not None}


# msgspec says what it expected, but not what it found, nor the key within a mapping. So what it refuses is searched,
# type by type, for the first value that it refuses by itself.


def _refusal(value: Any, kind: Any) -> Exception | None:
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        return error
    return None


def _fault(value: Any, kind: Any, where: str) -> str | None:
    """What is wrong with the first wrong setting in the value at the key `where`; None where nothing is."""
    if _refusal(value, kind) is None:
        return None
    (bare, metas), *others = [choice for choice in choices(kind) if choice[0] is not NoneType]
    if isinstance(bare, type) and issubclass(bare, Settings) and isinstance(value, Mapping):
        return _fault_of_node(value, [bare, *(other for other, _ in others)], where)
    if get_origin(bare) is not Literal and _refusal(value, get_origin(bare) or bare) is None:
        inside = (_fault(*each) for each in _inside(value, bare, where))
        if found := next(filter(None, inside), None):
            return found
    words = "".join(f", or {word}" for kind, _ in others if get_origin(kind) is Literal for word in get_args(kind))
    return f"{where}: {_given(value)} is {_expected(value, bare, metas)}{words}"


def _inside(value: Any, kind: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """The entries of a list or mapping, keys included, each with its type and key."""
    kinds = [each for each in get_args(kind) if each is not Ellipsis]
    for key, each in _entries(value):
        if isinstance(value, Mapping):
            yield key, kinds[0], _at(where, key)
        yield each, kinds[-1], _at(where, key)


@cache
def _fields(kind: type[Settings]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)  # which evaluates every annotation each time


def _fault_of_node(value: Mapping[str, Any], kinds: Sequence[type[Settings]], where: str) -> str:
    """As _fault, of a node that is of one of these kinds: where there are several, of the one that its tag says."""
    tags = {kind.__struct_config__.tag: kind for kind in kinds}
    tag = kinds[0].__struct_config__.tag_field
    if tag and tag not in value:
        return f"{where}: {_given(value)} is incomplete: set its key {tag!r}"
    if tag and value[tag] not in list(tags):
        return f"{where}: {_given(value)} is unknown: expected one of {', '.join(map(repr, tags))}"
    kind = tags[value[tag]] if tag else kinds[0]
    if unknown := [key for key in value if key not in _keys(kind)]:
        return kind.unknown_key(unknown[0], where)
    for field in _fields(kind):
        key = _at(where, field.name)
        if field.name not in value and field.required:
            return f"{key}: is missing: set it"
        if field.name in value and (fault := _fault(value[field.name], field.type, key)):
            return fault
    error = _refusal(value, kind)
    cause = error and error.__cause__  # of its own checks
    return _at(where, cause) if isinstance(cause, SettingError) else f"{where}: {cause or error}".removeprefix(": ")


def _keys(kind: type[Settings]) -> list[str]:
    tag = kind.__struct_config__.tag_field
    return [*([tag] if tag else []), *kind.__struct_fields__]


def _given(value: Any) -> str:
    return "null" if value is None else repr(value) if isinstance(value, str) else str(value)


def _expected(value: Any, kind: Any, metas: Iterable[Meta]) -> str:
    """What a value is that is not of the type or not within its limits."""
    if get_origin(kind) is Literal:
        *others, last = map(repr, get_args(kind))
        return f"unknown: expected {', '.join(others)}{' or ' if others else ''}{last}"
    kind = get_origin(kind) or kind
    if _refusal(value, kind) is not None:
        return _NOT[dict if issubclass(kind, Settings | Mapping) else kind]
    value = msgspec.convert(value, kind, strict=False)
    limits = [(*_LIMITS[name], bound) for meta in metas for name, bound in bounds(meta, _LIMITS).items()]
    said, bound = next((said, bound) for within, said, bound in limits if not within(value, bound))
    unit = " character" if kind is str and isinstance(bound, int) else ""
    return said.format(float(bound) if kind is float else bound).replace(r"\Z", "$") + unit


_NOT = {
    int: "no whole number: give one, such as 2",
    float: "no number: give one, such as 0.5",
    bool: "neither true nor false: give one of them",
    dt.date: "no day: give one as YYYY-MM-DD",
    str: "no text: give one, in quotes if it looks like a number",
    tuple: "no list: give one, such as [a, b]",
    dict: "no mapping: give its keys, such as {key: value}",
}
_LIMITS: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "gt": (operator.gt, "too small: expected more than {}"),
    "ge": (operator.ge, "too small: expected at least {}"),
    "lt": (operator.lt, "too large: expected less than {}"),
    "le": (operator.le, "too large: expected at most {}"),
    "min_length": (lambda value, length: len(value) >= length, "empty: give at least {}"),
    "max_length": (lambda value, length: len(value) <= length, "too long: give at most {}"),
    "pattern": (lambda value, pattern: re.search(pattern, value), "not of the form {}"),
}
