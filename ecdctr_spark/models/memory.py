"""What is known of a user and an item from the monthly snapshots of the tiny model (paper, section 3.3).

CPM attends over the months and trains that attention. For A-CTR the attention is frozen, so each entity's months are
merged into one vector ahead of time (paper, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ecdctr_spark.models.embedding import ShardedTable
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

_CHUNK = 1 << 16  # rows read or merged at a time
_ITEM = 1.0  # in the last column of an item's row; a user's has 0


class MonthAttention(nn.Module):
    """Self-attention over the months of an entity, then the mean over those that are present."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.query = nn.Linear(dimension, dimension, bias=False)
        self.key = nn.Linear(dimension, dimension, bias=False)
        self.value = nn.Linear(dimension, dimension, bias=False)

    def forward(self, months: Tensor) -> Tensor:
        """[B, D] from months [B, M, D]. A zero vector is a month without a snapshot; none present: zero."""
        present = (months != 0).any(-1)
        scores = self.query(months) @ self.key(months).transpose(1, 2) / months.shape[-1] ** 0.5
        # The lowest finite score, not -inf: an entity without any month must not become NaN.
        scores = scores.masked_fill(~present.unsqueeze(1), torch.finfo(scores.dtype).min)
        attended = scores.softmax(-1) @ self.value(months)
        total: Tensor = (attended * present.unsqueeze(-1)).sum(1)
        return total / present.sum(1, keepdim=True).clamp(min=1)


class MergedMemory(nn.Module):
    """One frozen vector an entity."""

    def __init__(self, rows: int, dimension: int, exchange: Exchange) -> None:
        super().__init__()
        self.table = ShardedTable(rows, dimension, exchange)
        self.outputs = 2 * dimension

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, 2 * dimension], the user's then the item's, from rows [B] and [B]."""
        vectors: Tensor = self.table(torch.stack([users, items], 1))
        return vectors.flatten(1)


class SnapshotMemory(nn.Module):
    """The snapshots of `spec.months` as one frozen table, a vector a month in each row, and trained attention over
    them, user and item apart. Without months every vector is zero."""

    def __init__(self, spec: ModelSpec, exchange: Exchange) -> None:
        super().__init__()
        self.months, self.dimension = spec.months, spec.memory_dimension
        self.table = ShardedTable(spec.rows, len(self.months) * self.dimension + 1, exchange)
        self.user = MonthAttention(self.dimension)
        self.item = MonthAttention(self.dimension)
        self.outputs = 2 * self.dimension

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, 2 * dimension], the user's then the item's, from rows [B] and [B]."""
        months = self._months(self.table(torch.stack([users, items], 1)))
        return torch.cat([self.user(months[:, 0]), self.item(months[:, 1])], 1)

    def fill(self, files: Iterable[str]) -> None:
        """Lays the rows that this rank holds from Parquet files of columns index and vector, whose paths say
        `month=` and `entity=` (partitions of the snapshots table). An index without a vector stays absent.

        Raises ConfigError where a file's path, month or vectors do not fit.
        """
        rank, size, weight = self.table.exchange.rank, self.table.exchange.size, self.table.weight
        for file in files:
            start, entity = self._place(file)
            for rows, vectors in _read(file, self.dimension):
                mine = (rows % size == rank) & (rows < self.table.rows)
                local = (rows[mine] // size).to(weight.device)
                weight[local, start : start + self.dimension] = vectors[mine].to(weight.device)
                weight[local, -1] = entity

    @torch.no_grad()
    def merged(self) -> MergedMemory:
        """The attention carried out once for each row that this rank holds."""
        memory = MergedMemory(self.table.rows, self.dimension, self.table.exchange)
        for source, target in zip(
            torch.split(self.table.weight, _CHUNK), torch.split(memory.table.weight, _CHUNK), strict=True
        ):
            months = self._months(source)
            target.copy_(torch.where(source[:, -1:] == _ITEM, self.item(months), self.user(months)))
        return memory

    def _months(self, vectors: Tensor) -> Tensor:
        return vectors[..., :-1].reshape(*vectors.shape[:-1], len(self.months), self.dimension)

    def _place(self, file: str) -> tuple[int, float]:
        """The first column of the file's month, and the mark of its entity."""
        folders = dict(folder.split("=", 1) for folder in unquote(file).split("/") if "=" in folder)
        month, entity = folders.get("month"), folders.get("entity")
        if month not in self.months or entity not in ("user_id", "item_id"):
            wanted = ", ".join(self.months) or "none"
            raise ConfigError(
                f"snapshots: {file} is of month {month} and entity {entity}; expected a month of {wanted} and "
                "user_id or item_id: name the files of the model's months"
            )
        return self.months.index(month) * self.dimension, _ITEM if entity == "item_id" else 0.0


def _read(file: str, dimension: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows int64 [n] and vectors float32 [n, dimension] of a snapshot file, a piece at a time."""
    with Root(file).open() as source:
        for piece in pq.ParquetFile(source).iter_batches(_CHUNK, columns=["index", "vector"]):
            values = piece.column("vector").flatten().to_numpy(zero_copy_only=False)
            if len(values) != len(piece) * dimension:
                raise ConfigError(f"snapshots: {file} has no vectors of {dimension}: tpm.dimension changed since")
            rows = torch.tensor(piece.column("index").to_numpy(), dtype=torch.int64)
            yield rows, torch.tensor(values, dtype=torch.float32).view(len(piece), dimension)
