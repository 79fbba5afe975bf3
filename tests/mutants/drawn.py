"""Mutants by cosmic-ray: one token of a module changed."""

from __future__ import annotations

import ast
import difflib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

Position = tuple[int, int]  # a line, counted from 1, and a column, counted from 0


class Mutant(NamedTuple):
    """A module as a path below the checkout, its line that is changed, that line afterwards, and the whole module."""

    module: str
    line: str
    changed: str
    code: str


def drawn(modules: Sequence[Path], number: int, seed: int = 1) -> list[Mutant]:
    """`number` mutants, each of another place in the modules. Each place has the same chance, and then each change that
    is possible there: a sign can be changed in ten ways, a `True` in one."""
    chance = random.Random(seed)
    places = [(module, changes) for module in modules for changes in _changes(module.read_text())]
    chosen = chance.sample(places, number)
    return [_mutant(module, *chance.choice(changes)) for module, changes in chosen]


def equivalent(file: Path) -> dict[tuple[str, str, str], str]:
    """The reasons why some mutants do what the module does, by module, line and changed line."""
    listed = json.loads(file.read_text())
    return {(entry["module"], entry["line"], entry["changed"]): entry["why"] for entry in listed}


def _changes(code: str) -> list[list[tuple[str, int]]]:
    """By place, the operators that can change it and the occurrence of each."""
    unread, nodes = _annotations(code), list(ast_nodes(get_ast(code)))
    found: dict[tuple[Position, Position], list[tuple[str, int]]] = defaultdict(list)
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments():  # such as which variable to replace
            continue
        positions = (place for node in nodes for place in kind().mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start < last for first, last in unread):
                found[start, end].append((name, occurrence))
    return list(found.values())


def _annotations(code: str) -> list[tuple[Position, Position]]:
    """Where the types are: nothing evaluates those of functions and variables."""
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in _types(ast.parse(code))
    ]


def _types(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns


def _mutant(module: Path, operator: str, occurrence: int) -> Mutant:
    code = module.read_text()
    changed = mutate_code(code, get_operator(operator)(), occurrence)
    differing = list(difflib.unified_diff(code.splitlines(), changed.splitlines(), lineterm="", n=0))[3:]
    before, after = (" ".join(line[1:].strip() for line in differing if line[0] == sign) for sign in "-+")
    return Mutant(str(module), before, after, changed)
