"""The contract between samples and models: which columns a model reads. Neither Spark nor torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ecdctr_spark.settings.base import Settings
from ecdctr_spark.settings.features import Features

PADDING = 0  # the embedding's row for "no behaviour here"; it belongs to no field and stays zero


class Sequence(Settings, frozen=True):
    """A behaviours column: its name, its length, and the id feature whose rows it holds."""

    name: str
    length: int
    of: str


class Contract(Settings, frozen=True):
    """The sample columns that a model reads, in order. It is part of jobs, checkpoints and exports, as JSON.

    `unknown` has, for each of `ids`, the first of its `unknown_rows` out-of-vocabulary rows. An index beyond a model's
    table, of a token that appeared after its training, is read as one of them.
    """

    ids: tuple[str, ...]
    unknown: tuple[int, ...]
    unknown_rows: int
    numbers: tuple[str, ...]
    sequences: tuple[Sequence, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The sample columns that a model reads."""
        return (*self.ids, *self.numbers, *(sequence.name for sequence in self.sequences))

    @property
    def columns(self) -> tuple[str, ...]:
        """The sample columns that a rank reads: features, the label and the day of its click, the weight."""
        return (*self.inputs, "label", "click_day", "weight")


def contract(features: Features, unknown: Mapping[str, int], fields: Literal["all", "basic"]) -> Contract:
    """The contract of a model that reads all fields, or only the basic ones. `unknown` maps a field to the first of
    its out-of-vocabulary rows; a count, which has no unknown token, to its lowest bucket.
    """
    used = [feature for feature in features.fields if fields == "all" or feature.basic]
    ids = [feature.name for feature in used if feature.role == "index"]
    return Contract(
        ids=tuple(ids),
        unknown=tuple(unknown[name] for name in ids),
        unknown_rows=features.out_of_vocabulary,
        numbers=tuple(feature.name for feature in used if feature.role == "number"),
        sequences=tuple(
            Sequence(name=feature.name, length=feature.length, of=feature.of)
            for feature in features.behaviours
            if feature in used
        ),
    )
