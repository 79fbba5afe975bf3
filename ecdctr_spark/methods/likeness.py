"""`like:` in methods, levels and networks: only the differences from another one are configured.

    methods:
      no_memory: {like: ecdctr, levels: {cpm: {memory: null}, actr: {memory: null}}}

A method is like another method. A level, or a level's network, is like a level of the same method (`like: cpm`) or of
another one (`like: ecdctr.actr`). Keys that are given replace those of the other. Mappings are merged key by key,
except those with another `kind` or clock, which replace the other's as a whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

Node = Mapping[str, Any]

_KINDS = ("kind", "every", "how")  # a node that differs in one of them has other keys


def expanded(methods: Any) -> dict[str, dict[str, Any]]:
    """The methods as plain nodes by name, every `like` resolved, each method and level with its `name`, without those
    that an overlay dropped (null). Those that are like no other come first, so that a wrong value that others take over
    is named where it was given.

    Raises ValueError where these are no methods by name, or that names a method or level whose `like` does not exist or
    leads back to itself.
    """
    if not isinstance(methods, Mapping):
        raise ValueError("methods: expected methods by name, such as {mine: {like: ecdctr, title: mine}}")
    kept = {name: node for name, node in methods.items() if node is not None}
    return {name: _method(name, kept) for name in sorted(kept, key=lambda name: _is_like_another(kept[name]))}


def _is_like_another(method: Any) -> bool:
    """Whether a method, or a level or network of it, is like that of another method."""
    return isinstance(method, Mapping) and ("like" in method or any("." in name for name in _likes(method)))


def _likes(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from [str(node["like"])] if "like" in node else []
        for inner in node.values():
            yield from _likes(inner)


def check_layer(before: Any, methods: Any) -> None:
    """Checks the methods of one overlay against those of the layers before it: a new method or level has a title or is
    like another one.

    Raises ValueError that names one that is neither new so nor known, and the nearest known one: a misspelling.
    """
    for name, method in _mapping("methods", methods).items():
        where = f"methods.{name}"
        levels = _mapping(f"{where}.levels", _mapping(where, method).get("levels"))
        _check_known(where, method, before or {})
        known = ((before or {}).get(name) or {}).get("levels") or {}
        for level, node in levels.items():
            _mapping(f"{where}.levels.{level}", node)
            if known:  # else the levels are those of a method that it is like
                _check_known(f"{where}.levels.{level}", node, known)


def _mapping(where: str, node: Any) -> Node:
    if node is not None and not isinstance(node, Mapping):
        raise ValueError(f"{where}: {node!r} is no mapping: give its keys, such as {{key: value}}")
    return node or {}


def _check_known(where: str, node: Any, known: Any) -> None:
    name = where.rsplit(".", 1)[-1]
    if name in known or (isinstance(node, Mapping) and ("like" in node or "title" in node)):
        return
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    hint = f"; the nearest known one is {nearest[0]}" if nearest else ""
    raise ValueError(f"unknown key {where} (a new one has a title or is like another){hint}")


def _method(name: str, methods: Mapping[str, Node]) -> dict[str, Any]:
    node = _whole(name, methods, ())
    others = {other: node for other, node in methods.items() if other != name}  # no cycle, however long
    levels: dict[str, dict[str, Any]] = {}
    for key, level in dict(node.get("levels") or {}).items():
        if level is None:  # dropped by an overlay
            continue
        merged = _like(level, f"methods.{name}.levels.{key}", levels, others)
        network = merged.get("network")
        if isinstance(network, Mapping) and "like" in network:
            other = _found(network["like"], f"methods.{name}.levels.{key}.network", levels, others)
            merged["network"] = _merged(other.get("network") or {}, _without_like(network))
        levels[key] = {**merged, "name": key}
    return {**node, "name": name, "levels": levels}


def _whole(name: str, methods: Mapping[str, Node], users: tuple[str, ...]) -> dict[str, Any]:
    """The method's node merged into the one it is like; levels are not resolved yet."""
    node = methods[name]
    other = node.get("like")
    if other is None:
        return dict(node)
    if other not in methods or other in (*users, name):
        known = ", ".join(sorted(methods.keys() - {*users, name}))
        raise ValueError(f"methods.{name}: like {other!r}, expected another method: {known}")
    return _merged(_whole(other, methods, (*users, name)), _without_like(node))


def _like(level: Node, where: str, levels: Mapping[str, Node], methods: Mapping[str, Node]) -> dict[str, Any]:
    if "like" not in level:
        return dict(level)
    return _merged(_found(level["like"], where, levels, methods), _without_like(level))


def _found(name: Any, where: str, levels: Mapping[str, Node], methods: Mapping[str, Node]) -> Node:
    """The level of that name; one of the same method must come before."""
    method, _, level = str(name).rpartition(".")
    if not method and level in levels:
        return levels[level]
    if method in methods:
        found = _method(method, methods)["levels"].get(level)
        if found is not None:
            return dict(found)
    known = ", ".join(levels) or "none"
    raise ValueError(f"{where}: like {name!r}, expected METHOD.LEVEL or a level before it in its method: {known}")


def _merged(other: Node, node: Node) -> dict[str, Any]:
    if any(key in node and key in other and node[key] != other[key] for key in _KINDS):
        return dict(node)
    merged = dict(other)
    for key, value in node.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _without_like(node: Node) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "like"}
