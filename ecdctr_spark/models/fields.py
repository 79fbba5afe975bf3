"""From the indices of a batch to vectors: one look-up for all fields and sequences, shared by all networks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError


class FieldVectors(NamedTuple):
    """`ids` [B, ids, D] in the contract's order; of each sequence its vectors [B, L, D] and a mask [B, L], False at
    padding; `rows` [B, ids] int32, the embedding's rows that were read for the ids."""

    ids: Tensor
    sequences: list[tuple[Tensor, Tensor]]
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
        ids = self._known(batch.ids, self.unknown)
        sequences = [
            self._known(batch.sequences[sequence.name], self.unknown[position])
            for sequence, position in zip(self.contract.sequences, self.positions, strict=True)
        ]
        # One look-up, so that ranks exchange once; flat, so that its parts are views.
        vectors = self.embedding(torch.cat([rows.flatten() for rows in (ids, *sequences)]))
        of_ids, *of_sequences = vectors.split([rows.numel() for rows in (ids, *sequences)])
        return FieldVectors(
            of_ids.view(*ids.shape, -1),
            [(v.view(*rows.shape, -1), rows != 0) for v, rows in zip(of_sequences, sequences, strict=True)],
            ids,
        )

    def _known(self, rows: Tensor, unknown: Tensor) -> Tensor:
        return torch.where(rows < self.rows, rows, unknown + rows % self.contract.unknown_rows)


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
    return nn.BatchNorm1d(numbers) if numbers else nn.Identity()
