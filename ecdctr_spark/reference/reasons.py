"""The reasons of settings: the comments of a YAML file, by the keys that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml

Path = tuple[str, ...]  # keys from the root; `[]` stands for any entry of a list


def reasons(text: str) -> dict[Path, str]:
    """The comment of each key that has one: on its line and below it in the same column, or on the lines directly above
    it, indented as the key is."""
    root = yaml.compose(text, yaml.SafeLoader)
    return dict(_commented(root, (), text.splitlines())) if root else {}


def _commented(node: yaml.Node, path: Path, lines: Sequence[str]) -> Iterator[tuple[Path, str]]:
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _commented(entry, (*path, "[]"), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            # What is written as a block continues below its key; anything else ends on the line of its comment.
            block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            end = key.end_mark if block else value.end_mark
            if said := [*_above(lines, key.start_mark), *_beside(lines, end)]:
                yield here, " ".join(said)
            yield from _commented(value, here, lines)


def _above(lines: Sequence[str], start: yaml.Mark) -> list[str]:
    found: list[str] = []
    for line in reversed(lines[: start.line]):
        if not line.startswith(f"{' ' * start.column}#"):
            break
        found.insert(0, line.strip("# "))
    return found


def _beside(lines: Sequence[str], end: yaml.Mark) -> list[str]:
    comment = re.match(r":?\s*#\s*(.*)", rest := lines[end.line][end.column :])
    if comment is None:
        return []
    found, column = [comment.group(1)], end.column + rest.index("#")
    for line in lines[end.line + 1 :]:
        if not line.startswith(f"{' ' * column}#"):
            break
        found.append(line.strip("# "))
    return found
