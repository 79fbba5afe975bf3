"""Every setting of the configuration tree: what it may be, what it is by default, and why.

Types, limits and defaults are those of the typed tree. Reasons are the comments in conf/, or a field's own description
where conf/ says nothing. So nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from ecdctr_spark.config import CONF, Config
from ecdctr_spark.models import MODELS
from ecdctr_spark.reference.reasons import Path, reasons
from ecdctr_spark.settings.features import KINDS

NAME = "NAME"  # in a path: any name, in a mapping from names
Schema = Mapping[str, Any]

# Nodes whose keys depend on their kind. The tree knows their base class only.
_KINDS: dict[str, dict[str, type[BaseModel]]] = {
    "Feature": dict(KINDS),
    "Network": {kind: settings for kind, (settings, _) in MODELS.items()},
}


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
    yield from _groups(Config.model_json_schema(), (), "", comments, base)


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


def _groups(schema: Schema, path: Path, kind: str, comments: Mapping[Path, str], base: Any) -> Iterator[Group]:
    """The node of an object's schema, then the nodes below it."""
    definitions = schema.get("$defs", {})
    settings: list[Setting] = []
    inside: list[tuple[Schema, Path, str]] = []
    for name, declared in schema["properties"].items():
        here = (*path, name)
        nodes = list(_nodes(declared, here, definitions))
        inside += nodes
        if not nodes:
            reason = comments.get(here) or declared.get("description", "")
            settings.append(Setting(here, _expected(declared, definitions), _default(here, declared, base), reason))
    # A comment on a name is about that one, such as the level tpm, and not about all.
    about = schema.get("description", "") if path else ""
    comment = "" if NAME in path else comments.get(path, "")
    yield Group(path, kind, "\n\n".join(filter(None, (" ".join(comment.split()), about))), tuple(settings))
    for node, below, of_kind in inside:
        yield from _groups({"$defs": definitions, **node}, below, of_kind, comments, base)


def _nodes(declared: Schema, path: Path, definitions: Schema) -> Iterator[tuple[Schema, Path, str]]:
    """The objects that a property may hold, with their paths and kinds; none where it is a setting."""
    for choice in (*declared.get("anyOf", ()), *declared.get("oneOf", ())):
        yield from _nodes(choice, path, definitions)
    if "$ref" in declared:
        name = declared["$ref"].rsplit("/", 1)[-1]
        if name in _KINDS:
            for kind, node in _KINDS[name].items():
                yield node.model_json_schema(), path, f"kind: {kind}"
        elif "properties" in definitions[name]:
            node = definitions[name]
            chosen = [f"{key}: {value['const']}" for key, value in node["properties"].items() if "const" in value]
            yield node, path, ", ".join(chosen)
    if isinstance(items := declared.get("items"), Mapping):
        # Features are configured by name, though the tree holds them as a list.
        named = items.get("$ref", "").endswith("/Feature")
        yield from _nodes(items, (*path, NAME if named else "[]"), definitions)
    if isinstance(values := declared.get("additionalProperties"), Mapping):
        yield from _nodes(values, (*path, NAME), definitions)


def _default(path: Path, declared: Schema, base: Any) -> str:
    """What conf/base.yaml says, or else the field's own default."""
    for key in path:
        if not isinstance(base, Mapping) or key not in base:
            value = declared.get("default", "???")
            break
        base = value = base[key]
    if value == "???":
        return "-"
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def _expected(declared: Schema, definitions: Schema) -> str:
    """What a setting may be, in words."""
    if "$ref" in declared:
        return _expected(definitions[declared["$ref"].rsplit("/", 1)[-1]], definitions)
    if choices := declared.get("anyOf"):
        return " or ".join(_expected(choice, definitions) for choice in choices)
    if "const" in declared:
        return f"`{declared['const']}`"
    if values := declared.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if declared.get("type") == "array":
        kind = f"list of {_expected(declared.get('items', {}), definitions)}"
    elif declared.get("type") == "object":
        kind = f"mapping from names to {_expected(declared.get('additionalProperties', {}), definitions)}"
    else:
        kind = "day" if declared.get("format") == "date" else _TYPES[declared["type"]]
    limits = [said.format(declared[key]) for key, said in _LIMITS.items() if key in declared]
    return ", ".join([kind, *limits])


_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_LIMITS = {
    "exclusiveMinimum": "more than {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "pattern": "of the form `{}`",
}
