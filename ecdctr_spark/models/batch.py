"""The one typed Batch that every model reads, and how it is made from sample columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ecdctr_spark.contract import Contract

if TYPE_CHECKING:
    from ecdctr_spark.models.fields import Asked


@dataclass(frozen=True)
class Batch:
    """B samples: ids [B, ids] int32, numbers [B, numbers] float32, each sequence [B, length] int32, labels and
    weights [B] float32. Columns are in the contract's order; ids and sequences are rows of the embedding.

    `room`, above 0 and at most 1, is for steps whose shapes must not depend on values (training/captured.py): the share
    of the places of each sequence that its behaviours take at most. None: as many as are present.

    `asked` is a look-up of its rows that a model has begun ahead (models/fields.py). No other model takes it, and of
    what is taken from the batch it is not."""

    ids: Tensor
    numbers: Tensor
    sequences: dict[str, Tensor]
    labels: Tensor
    weights: Tensor
    room: float | None = None
    asked: Asked | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Batch:
        """The samples of these rows [n] int64, in their order."""
        return self.each(lambda tensor: tensor.index_select(0, rows))  # several times faster than tensor[rows]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; the same object where it is there already."""
        if self.labels.device == device:
            return self
        return replace(self.each(lambda tensor: tensor.to(device)), asked=self.asked)

    def parts(self, number: int) -> list[Batch]:
        """Exactly `number` consecutive parts. With fewer rows than parts, the last parts are one row of weight zero."""
        if number == 1:
            return [self]
        cuts = torch.tensor_split(torch.arange(len(self)), number)
        parts = [self.take(rows) for rows in cuts if len(rows)]
        nothing = replace(self.take(torch.tensor([0])), weights=torch.zeros(1))
        return parts + [nothing] * (number - len(parts))

    def tensors(self) -> list[Tensor]:
        """Ids, numbers, the sequences, labels, weights."""
        return [self.ids, self.numbers, *self.sequences.values(), self.labels, self.weights]

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch of changed tensors, changed in the order of `tensors`."""
        return Batch(
            ids=change(self.ids),
            numbers=change(self.numbers),
            sequences={name: change(sequence) for name, sequence in self.sequences.items()},
            labels=change(self.labels),
            weights=change(self.weights),
            room=self.room,
        )


def to_batch(columns: Mapping[str, Any], contract: Contract) -> Batch:
    """A Batch from columns of equal length: numpy arrays or anything numpy reads; packed bytes for sequences.

    Scoring has no labels and weights: where they are absent they are zeros and ones. Raises KeyError where another
    column of the contract is missing.
    """
    rows = len(next(iter(columns.values())))
    labels = columns.get("label", np.zeros(rows))
    weights = columns.get("weight", np.ones(rows))
    return Batch(
        ids=torch.from_numpy(_stack(columns, contract.ids, np.int32, rows)),
        numbers=torch.from_numpy(_stack(columns, contract.numbers, np.float32, rows)),
        sequences={
            sequence.name: torch.from_numpy(unpack(columns[sequence.name], sequence.length))
            for sequence in contract.sequences
        },
        labels=torch.from_numpy(np.asarray(labels, dtype=np.float32)),
        weights=torch.from_numpy(np.asarray(weights, dtype=np.float32)),
    )


def unpack(packed: Any, length: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """A sequence column as int32 [rows, length], from bytes of `length` big-endian int32 per row."""
    return np.frombuffer(b"".join(packed), dtype=">i4").astype(np.int32).reshape(len(packed), length)


def _stack(columns: Mapping[str, Any], names: tuple[str, ...], dtype: type, rows: int) -> np.ndarray[Any, Any]:
    stacked: np.ndarray[Any, Any] = np.empty((rows, len(names)), dtype=dtype)
    for position, name in enumerate(names):
        stacked[:, position] = columns[name]
    return stacked
