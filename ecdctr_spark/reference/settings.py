"""Every setting of the configuration tree: what it may be, what it is by default, and why.

Types, limits and defaults are those of the typed tree. Reasons are the comments in conf/, or a field's own description
where conf/ says nothing. So nothing is written twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from inspect import cleandoc
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from msgspec import NODEFAULT, Meta
from msgspec.structs import FieldInfo, fields

from ecdctr_spark.config import CONF, Config
from ecdctr_spark.reference.reasons import Path, reasons
from ecdctr_spark.settings.base import Settings, bounds, choices
from ecdctr_spark.settings.features import KINDS
from ecdctr_spark.settings.networks import NETWORKS

NAME = "NAME"  # in a path: any name, in a mapping from names
Node = tuple[type[Settings], Path, str]  # its path and kind


class Setting(NamedTuple):
    """A key of the tree that has a value, not keys of its own."""

    path: Path
    expected: str
    default: str
    reason: str


class Group(NamedTuple):
    """A node of the tree, with the settings directly below it. `kind` tells apart nodes that may be at one path, such
    as `every: week`; else it is empty."""

    path: Path
    kind: str
    about: str
    settings: tuple[Setting, ...]


def groups() -> Iterator[Group]:
    """All nodes of the tree, each before those below it."""
    comments = _comments()
    base = yaml.safe_load((CONF / "base.yaml").read_text("utf-8"))
    yield from _groups((Config, (), ""), comments, base)


def page() -> str:
    """The reference of all settings, as Markdown."""
    parts = [_HEAD]
    for group in groups():
        if group.about or group.settings:
            title = ", ".join(filter(None, (f"`{'.'.join(group.path)}`", group.kind)))
            parts.append(f"## {title}")
            parts += [group.about] if group.about else []
            parts += ["\n".join([_COLUMNS, *map(_row, group.settings)])] if group.settings else []
    parts.append("## Methods as shipped")
    for name, text in _methods().items():
        parts.append(f"```yaml\n# conf/methods/{name}\n{text}```")
    return "\n\n".join(parts)


_COLUMNS = "| setting | expected | default | why |\n|---|---|---|---|"
_HEAD = f"""# Settings

Made from the typed tree and the comments in conf/. An overlay names what differs from conf/base.yaml; `--set key=value`
names one setting. `{NAME}` stands for a name of your choice, `[]` for an entry of a list. What has the default - must
be set, or is set by the file that declares the node: conf/methods/ for methods, conf/synthetic.yaml for platforms."""


def _row(setting: Setting) -> str:
    cells = (f"`{setting.path[-1]}`", setting.expected, setting.default, setting.reason)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _comments() -> dict[Path, str]:
    """The comments in conf/ by the path of their setting. Of several levels and methods, the first that comments on a
    setting counts."""
    found = reasons((CONF / "synthetic.yaml").read_text("utf-8"))
    found |= reasons((CONF / "base.yaml").read_text("utf-8"))
    for text in _methods().values():
        for path, said in reasons(text).items():
            where = ("levels", NAME, *path[2:]) if path[0] == "levels" and len(path) > 1 else path
            found.setdefault(("methods", NAME, *where), said)
    return found


def _methods() -> dict[str, str]:
    """The text of each file in conf/methods/, by its name."""
    files = sorted((CONF / "methods").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text("utf-8") for file in files if file.name.endswith(".yaml")}


def _groups(node: Node, comments: Mapping[Path, str], base: Any) -> Iterator[Group]:
    """The node, then the nodes below it."""
    declared, path, kind = node
    settings, inside = _tag(declared, path), list[Node]()
    for field in fields(declared):
        here = (*path, field.name)
        nodes = list(_of_kinds(here) or _nodes(field.type, here))
        inside += nodes
        if not nodes:
            reason = comments.get(here) or _reason(field.type)
            settings.append(Setting(here, _expected(field.type), _default(here, field, base), reason))
    # A comment on a name is about that one, such as the level tpm, and not about all.
    about = cleandoc(declared.__doc__ or "") if path else ""
    comment = "" if NAME in path else comments.get(path, "")
    yield Group(path, kind, "\n\n".join(filter(None, (" ".join(comment.split()), about))), tuple(settings))
    for below in inside:
        yield from _groups(below, comments, base)


def _tag(declared: type[Settings], path: Path) -> list[Setting]:
    """The key that tells a node from others that may be in its place."""
    config = declared.__struct_config__
    return [Setting((*path, config.tag_field), f"`{config.tag}`", "-", "")] if config.tag_field else []


def _of_kinds(path: Path) -> list[Node]:
    """The nodes of a setting whose keys depend on their kind, which the tree does not know."""
    if path == ("features", "fields"):
        return [(node, (*path, NAME), f"kind: {kind}") for kind, node in KINDS.items()]
    if path == ("methods", NAME, "levels", NAME, "network"):
        return [(node, path, f"kind: {kind}") for kind, node in NETWORKS.items()]
    return []


def _nodes(declared: Any, path: Path) -> Iterator[Node]:
    """The nodes that a setting of a type may hold; none where it has a value."""
    for choice, _ in choices(declared):
        if isinstance(choice, type) and issubclass(choice, Settings):
            config = choice.__struct_config__
            yield choice, path, f"{config.tag_field}: {config.tag}" if config.tag_field else ""
        elif get_origin(choice) is tuple:
            yield from _nodes(get_args(choice)[0], (*path, "[]"))
        elif get_origin(choice) in (dict, Mapping):
            yield from _nodes(get_args(choice)[1], (*path, NAME))


def _reason(declared: Any) -> str:
    (_, metas), *_ = choices(declared)
    return next((meta.description for meta in metas if meta.description), "")


def _default(path: Path, field: FieldInfo, base: Any) -> str:
    """What conf/base.yaml says, or else the field's own default."""
    for key in path:
        if not isinstance(base, Mapping) or key not in base:
            value = "???" if field.required else field.default
            if field.default_factory is not NODEFAULT:
                value = field.default_factory()
            break
        base = value = base[key]
    if value == "???":
        return "-"
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def _expected(declared: Any) -> str:
    """What a setting of a type may be, in words."""
    return " or ".join(_expected_choice(choice, metas) for choice, metas in choices(declared))


def _expected_choice(choice: Any, metas: list[Meta]) -> str:
    if get_origin(choice) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(choice))
    if get_origin(choice) is tuple:
        least = [f", at least {meta.min_length} of them" for meta in metas if meta.min_length]
        return f"list of {_expected(get_args(choice)[0])}{''.join(least)}"
    if get_origin(choice) in (dict, Mapping):
        return f"mapping from names to {_expected(get_args(choice)[1])}"
    limits = [_LIMITS[name].format(bound) for meta in metas for name, bound in bounds(meta, _LIMITS).items()]
    return ", ".join([_TYPES[choice], *limits]).replace(r"\Z", "$")


_TYPES = {
    int: "whole number", float: "number", str: "text", bool: "true or false", dt.date: "day", NoneType: "null"
}  # fmt: skip
_LIMITS = {
    "gt": "more than {}",
    "ge": "at least {}",
    "lt": "less than {}",
    "le": "at most {}",
    "pattern": "of the form `{}`",
}
