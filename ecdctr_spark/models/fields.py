"""From the indices of a batch to vectors: one look-up for all fields, sequences and tables beside them, shared by all
networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.behaviours import Behaviours, Owners, present
from ecdctr_spark.models.embedding import ShardedEmbedding, ShardedTable
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.layers import BatchNorm
from ecdctr_spark.models.look_up import LookUp, Wanted
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError


class Beside(NamedTuple):
    """Another table with the embedding's rows, and the positions of the K ids whose vectors are read from it too."""

    table: ShardedTable
    ids: tuple[int, ...]


class FieldVectors(NamedTuple):
    """Of each id its vectors [B, D] and of each sequence its behaviours, in the contract's order; of each table beside
    the embedding its vectors [B, K, D]."""

    ids: Sequence[Tensor]
    sequences: list[Behaviours]
    beside: list[Tensor]


class Asked(NamedTuple):
    """What a batch reads of the embedding in `of` and of tables beside it: its look-up, and whose the behaviours of
    each sequence are."""

    of: Fields
    look_up: LookUp
    owners: list[Owners]


@runtime_checkable
class Asks(Protocol):
    """A network whose look-ups can be begun before its forward pass. Any other looks up what it reads as it goes."""

    def ask(self, batch: Batch) -> Asked:
        """Begins the look-up of a batch on the model's device, for `Batch.asked`. It depends on no weight. All ranks
        call it together."""


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

    def ask(self, batch: Batch, beside: Sequence[Beside] = ()) -> Asked:
        """See Asks."""
        ids = self._known(batch.ids, self.unknown).t()
        listed = [present(batch.sequences[sequence.name], batch.room) for sequence in self.contract.sequences]
        behaviours = [
            self._known(rows, self.unknown[position])
            for (rows, _), position in zip(listed, self.positions, strict=True)
        ]
        # One look-up, so that ranks exchange once, field after field: each one's vectors and gradients stay together.
        wanted = [Wanted(self.embedding, torch.cat([ids.flatten(), *behaviours]))]
        wanted += [Wanted(table, torch.stack([ids[each] for each in places], 1).flatten()) for table, places in beside]
        return Asked(self, LookUp(wanted), [owners for _, owners in listed])

    def forward(self, batch: Batch, beside: Sequence[Beside] = ()) -> FieldVectors:
        """See FieldVectors. Takes the look-up that was begun ahead, if it is of this model, else begins one. All ranks
        call it together."""
        asked = batch.asked
        if asked is None or asked.of is not self:  # a teacher has tables of its own
            asked = self.ask(batch, beside)
        owners = asked.owners
        answers = zip(asked.look_up.wanted, asked.look_up.answers(), strict=True)
        vectors, *others = (table(rows, answer) for (table, rows), answer in answers)
        ids = len(self.contract.ids)
        parts = torch.split(vectors, [len(batch)] * ids + [len(each.sample) for each in owners])
        return FieldVectors(
            parts[:ids],
            [Behaviours(*each) for each in zip(parts[ids:], owners, strict=True)],
            [each.view(len(batch), -1, each.shape[1]) for each in others],
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
