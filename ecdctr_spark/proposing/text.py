"""A proposed configuration as the text of an overlay, and as lines for the terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ecdctr_spark.proposing.evidence import Guess
from ecdctr_spark.proposing.features import LEFT_OUT, Feature
from ecdctr_spark.proposing.proposal import Proposal

_WIDTH = 120
_HEADER = """\
# Proposed by `ecdctr init` from the logs below. What follows a # is why. Read it before the first run:
#   CHECK  names and values leave this open: compare it with what you know of the logs
#   ???    could not be decided: nothing runs before you give it
# `ecdctr check --raw --conf THIS FILE` then shows what an ingest would read. All other settings, each with its reason,
# are in conf/base.yaml.
"""
_FEATURES = """\
# Beside these, features are those of conf/base.yaml: ids of user and item, their counts and click rates up to
# yesterday, and the user's last clicks.
# CHECK: a column of the impressions (context.X) may be used only if it is known before the impression is shown.
# Numbers of different values are those of the excerpt."""
_BATCHES = """\
# CHECK: these logs are small, and a training needs a hundred steps or more. Batches are a matter of trial: compare the
# report's results for one size and another on days that you do not publish."""


def yaml_of(proposal: Proposal) -> str:
    """The overlay, with the evidence of each guess as a comment."""
    lines = [_HEADER, "storage:", *_entry(1, "root", Guess(".ecdctr", True, "tables and models: a path or a URI")), ""]
    lines += ["source:", "  kind: files", *_entry(1, "format", proposal.form)]
    lines += _part(1, "csv", proposal.csv)
    for log, guess in proposal.logs.items():
        lines += _entry(1, log, guess)
    lines += [f"  # {note}" for note in proposal.notes]
    if proposal.columns:
        lines += ["  columns:  # what the logs call them; names that need no other are comments"]
        for log, columns in proposal.columns.items():
            lines += _part(2, log, columns)
    lines += _part(1, "domains", proposal.domains)
    for name, guess in proposal.units.items():
        lines += _entry(1, name, guess)
    lines += ["", *_part(0, "calendar", proposal.calendar)]
    if proposal.features:
        lines += ["", _FEATURES, "features:", "  fields:"]
        lines += [*(line for feature in proposal.features for line in _field(feature))]
    if proposal.batches:
        lines += ["", _BATCHES, "methods:", f"  {proposal.method}:", "    levels:"]
        for level, guess in proposal.batches.items():
            lines += [*_comment(3, guess.why), f"      {level}: {{train: {{batch_size: {guess.value}}}}}"]
    return "\n".join(lines) + "\n"


def lines_of(proposal: Proposal) -> Iterator[str]:
    """Each guess with its evidence on a line that begins with how sure it is."""
    for key, guess in proposal.guesses.items():
        yield f"{_mark(guess):<6} {key} = {_scalar(guess.value)}  ({guess.why})"
    for note in proposal.notes:
        yield f"CHECK  {note}"
    for feature in proposal.features:
        said = "left out" if feature.declared == LEFT_OUT else _field_value(feature)
        yield f"{'sure' if feature.sure else 'CHECK':<6} features.fields.{feature.name} = {said}  ({feature.why})"


def _part(depth: int, key: str, part: Mapping[str, Guess]) -> list[str]:
    """A mapping of guesses. Columns that are called as in the raw contract are comments."""
    if not part:
        return []
    lines = [f"{'  ' * depth}{key}:"]
    if all(guess.value == name for name, guess in part.items()):
        lines = [f"{'  ' * depth}{key}: {{}}"]
    for name, guess in part.items():
        if guess.value == name:
            lines += _comment(depth + 1, f"{'' if guess.sure else 'CHECK: '}{name}: {guess.why}")
        else:
            lines += _entry(depth + 1, name, guess)
    return lines


def _entry(depth: int, key: str, guess: Guess) -> list[str]:
    line = f"{'  ' * depth}{_scalar(key)}: {_scalar(guess.value)}"
    if guess.sure and len(line) + len(guess.why) + 4 <= _WIDTH:
        return [f"{line}  # {guess.why}"]
    why = guess.why if guess.sure else f"{_mark(guess)}: {guess.why}"
    return [*_comment(depth, why), line]


def _field(feature: Feature) -> list[str]:
    if feature.declared == LEFT_OUT:
        return _comment(2, f"{'' if feature.sure else 'CHECK: '}no {feature.name}: {feature.why}")
    line = f"    {feature.name}: {_field_value(feature)}"
    if len(line) + len(feature.why) + 4 <= _WIDTH:
        return [f"{line}  # {feature.why}"]
    return [*_comment(2, feature.why), line]


def _field_value(feature: Feature) -> str:
    return "null" if feature.declared is None else _scalar(dict(feature.declared))


def _comment(depth: int, text: str) -> list[str]:
    start = f"{'  ' * depth}# "
    plain = " ".join(text.split())
    return textwrap.wrap(
        plain, _WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False, break_on_hyphens=False
    )


def _mark(guess: Guess) -> str:
    return "???" if guess.value is None else "sure" if guess.sure else "CHECK"


def _scalar(value: Any) -> str:
    """A value as YAML on one line."""
    if value is None:
        return "???"
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
