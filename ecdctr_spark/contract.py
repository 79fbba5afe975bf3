"""What a model reads of a sample: it travels in jobs, checkpoints and exports. Neither Spark nor torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ecdctr_spark.settings.base import Settings
from ecdctr_spark.settings.features import Features

PADDING = 0  # the row of the embedding that stands for "no behaviour here"; it belongs to no field and stays zero


class Sequence(Settings):
    """A behaviours column: its name, its length, and the id feature whose rows it holds."""

    name: str
    length: int
    of: str


class Contract(Settings):
    """What a model reads from the samples, in order. It travels inside jobs, checkpoints and exports as JSON.

    `unknown` gives for each of `ids` the first of its `unknown_rows` out-of-vocabulary rows: a token whose index
    lies beyond a model's table (it appeared after the training) is read as one of them.
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
        """The sample columns that a rank reads: features, the label with the day on which it was known, weight."""
        return (*self.inputs, "label", "click_day", "weight")


def contract(features: Features, unknown: Mapping[str, int], fields: Literal["all", "basic"]) -> Contract:
    """The contract of a model that reads all fields, or only the basic ones. `unknown` maps a field to the first of
    its out-of-vocabulary rows.

    A count has no unknown token: its buckets exist from the start, and its lowest stands in.
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
