"""From the indices of a batch to vectors: one look-up for all fields and sequences, shared by all networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.behaviours import Behaviours, present
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.layers import BatchNorm
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError


class FieldVectors(NamedTuple):
    """Of each id its vectors [B, D] and of each sequence its behaviours, in the contract's order; `rows` [ids, B]
    int32, the embedding's rows that were read for the ids."""

    ids: Sequence[Tensor]
    sequences: list[Behaviours]
    rows: Tensor


class Fields(nn.Module):
    """The embedding of a model. An index beyond its rows, of a token that appeared after the training, is read as one
    of its field's out-of-vocabulary rows."""

    unknown: Tensor

    def __init__(self, spec: ModelSpec, exchange: Exchange) -> None:
        super().__init__()
        self.contract, self.rows = spec.contract, spec.rows
        self.embedding = ShardedEmbedding(spec.rows, spec.dimension, exchange, spec.network["seed"])
        self.register_buffer("unknown", torch.tensor(self.contract.unknown, dtype=torch.int32), persistent=False)
        self.positions = [position_of(spec, sequence.of) for sequence in self.contract.sequences]

    def forward(self, batch: Batch) -> FieldVectors:
        """See FieldVectors. All ranks call it together."""
        ids = self._known(batch.ids, self.unknown).t()
        listed = [present(batch.sequences[sequence.name], batch.room) for sequence in self.contract.sequences]
        behaviours = [
            self._known(rows, self.unknown[position])
            for (rows, _), position in zip(listed, self.positions, strict=True)
        ]
        # One look-up, so that ranks exchange once, field after field: each one's vectors and gradients stay together.
        vectors = self.embedding(torch.cat([ids.flatten(), *behaviours]))
        parts = vectors.split([ids.shape[1]] * len(ids) + [len(rows) for rows in behaviours])
        of_sequences = parts[len(ids) :]
        return FieldVectors(
            parts[: len(ids)],
            [Behaviours(each, owners) for each, (_, owners) in zip(of_sequences, listed, strict=True)],
            ids,
        )

    def _known(self, rows: Tensor, unknown: Tensor) -> Tensor:
        here = rows < self.rows
        # A training's samples have no later tokens, as a rule: a CPU computes nothing for them then. To ask a GPU would
        # take longer than the computation.
        if not rows.is_cuda and here.all():
            return rows
        return torch.where(here, rows, unknown + rows % self.contract.unknown_rows)


def position_of(spec: ModelSpec, name: str) -> int:
    """The position of an id feature among the model's ids. Raises ConfigError where the model does not read it."""
    if name not in spec.contract.ids:
        raise ConfigError(
            f"network {spec.network['kind']}: needs the id feature {name}; declare it in features.fields (basic, where"
            " the level reads basic features)"
        )
    return spec.contract.ids.index(name)


def normed_numbers(spec: ModelSpec) -> nn.Module:
    """Batch norm of the numbers, [B, numbers] -> [B, numbers]; the identity where there are none."""
    numbers = len(spec.contract.numbers)
    return BatchNorm(numbers) if numbers else nn.Identity()
