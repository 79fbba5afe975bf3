"""The reference has every setting of the tree, each with a reason."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import pytest

from ecdctr_spark.config import load_config
from ecdctr_spark.reference import settings
from ecdctr_spark.reference.settings import Group, Setting, groups, page
from ecdctr_spark.settings.base import Settings, about, plain


@cache
def documented() -> tuple[Group, ...]:
    return tuple(groups())


def without_reason(found: tuple[Group, ...]) -> list[str]:
    """The settings that say neither what they are for nor, where they can have one value only, what that stands for."""
    silent = [
        (group, setting)
        for group in found
        for setting in group.settings
        if not (setting.reason or (_constant(setting) and group.about))
    ]
    return [".".join(setting.path) for _, setting in silent]


def _constant(setting: Setting) -> bool:
    return setting.expected.startswith("`") and " or " not in setting.expected


def leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [leaf for key, value in inside for leaf in leaves(value, (*path, str(key)))] or [path]


def undocumented(paths: list[tuple[str, ...]], found: tuple[Group, ...]) -> list[str]:
    """The paths that no documented setting covers."""
    known = {setting.path for group in found for setting in group.settings}
    return [".".join(path) for path in paths if not any(covers(setting, path) for setting in known)]


def covers(setting: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """A path may go on inside a setting that is a list or a mapping, and end above it at a node that is null."""
    return all(mine in ("NAME", "[]", theirs) for mine, theirs in zip(setting, path, strict=False))


def everything() -> list[tuple[str, ...]]:
    """The settings of a configuration in which few nodes are null, by the classes that check it."""
    days = ["calendar.first_day=2024-08-01", "demo={first: 2024-08-01, last: 2024-08-02}"]
    taught = "methods.ecdctr.levels.actr.teacher={level: cpm, share: 0.5, max_age_days: 9}"
    alone = "methods.ads_only.levels.ads_only.teacher=null"
    return leaves(plain(load_config(["synthetic"], [*days, taught, alone])))


def test_every_setting_of_the_tree_is_in_the_reference() -> None:
    assert undocumented(everything(), documented()) == []


def test_every_setting_has_a_reason() -> None:
    assert without_reason(documented()) == []


class Silent(Settings, frozen=True):
    number: int


class Whole(Settings, frozen=True):
    silent: Silent
    said: Annotated[int, about("why")]


def test_a_setting_without_a_reason_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "Config", Whole)
    assert without_reason(tuple(groups())) == ["silent.number"]
    assert undocumented([("silent", "number"), ("silent", "other")], tuple(groups())) == ["silent.other"]


def setting(path: str, kind: str = "") -> Setting:
    (found,) = [
        each for group in documented() if group.kind == kind for each in group.settings if ".".join(each.path) == path
    ]
    return found


def test_a_reason_is_the_comment_in_conf_and_else_the_description() -> None:
    assert setting("labels.attribution_hours").reason == "a click counts for its impression up to this long after it"
    assert setting("features.fields.NAME.evict_days", "kind: id").reason.startswith("days not shown")
    assert setting("methods.NAME.levels.NAME.network.cross_layers", "kind: ctr").reason == "DCN-v2's; 0: none"


@pytest.mark.parametrize(
    ("path", "kind", "expected", "default"),
    [
        ("training.launcher", "", "`inline` or `local` or `spark`", "`local`"),
        ("training.min_ranks", "", "whole number, more than 0 or null", "`null`"),
        ("calendar.first_day", "", "day", "-"),
        ("check.limits.click_rate.high", "", "number or null", "`0.99`"),
        ("sampling.natural.negative", "", "number, more than 0, at most 1", "`0.5`"),
        ("evaluation.methods", "", "list of text, at least 1 of them", "`[ecdctr, ads_only]`"),
        ("methods.NAME.levels.NAME.clock.weekday", "every: week", "whole number, at least 0, at most 6", "-"),
        ("methods.NAME.levels.NAME.reads.domains", "", "mapping from names to number", "-"),
        ("methods.NAME.levels.NAME.train.kernel", "", "`torch` or `fbgemm`", "`torch`"),
    ],
)
def test_types_limits_and_defaults_are_those_of_the_tree(path: str, kind: str, expected: str, default: str) -> None:
    found = setting(path, kind)
    assert (found.expected, found.default) == (expected, default)


def test_the_page_names_every_setting_below_its_node() -> None:
    sections = dict(part.split("\n", 1) for part in page().split("\n## ")[1:])
    for group in documented():
        title = ", ".join(filter(None, (f"`{'.'.join(group.path)}`", group.kind)))
        for each in group.settings:
            assert f"| `{each.path[-1]}` |" in sections[title]
    assert "| `quote` | text or null |" in sections["`source.csv`"]
