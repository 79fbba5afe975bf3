"""A model's memory of users and items: their vectors in the monthly snapshots of another model (paper, section 3.3).

The complete model attends over the months and trains that attention. For the ad model the attention is frozen, so each
entity's months are merged into one vector ahead of time (paper, section 3.4). The paper names self-attention and mean
pooling and no further architecture: this is one reading of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from ecdctr_spark.models.embedding import ShardedTable
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.spec import MemorySpec, ModelSpec
from ecdctr_spark.pages import opened
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
        """[B, D] from months [B, M, D]. A zero vector is a month without a snapshot. Zero where all months are."""
        # Months are few, so samples come last: [M, D, B]. A general product of many small matrices takes twice as long.
        each = months.permute(1, 2, 0).contiguous()
        present = each.abs().amax(1) > 0
        # q_i k_j is m_i (Q'K) m_j: two small matrices are multiplied, not all months with each of them.
        asked = self.key.weight.t() @ self.query.weight / months.shape[-1] ** 0.5 @ each
        scores = (asked.unsqueeze(1) * each.unsqueeze(0)).sum(2)
        # The lowest finite score, not -inf: an entity without any month must not become NaN.
        attended = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(1)
        shares = (attended * present.unsqueeze(1)).sum(0) / present.sum(0).clamp(min=1)
        # The mean of weighted sums of values is the value of a weighted sum.
        pooled: Tensor = self.value((shares.unsqueeze(1) * each).sum(0).t())
        return pooled


class MonthMean(nn.Module):
    """The mean of an entity's months; has no weights."""

    def forward(self, months: Tensor) -> Tensor:
        """[B, D] from months [B, M, D], as MonthAttention."""
        present = _present(months).sum(1, keepdim=True)
        mean: Tensor = months.sum(1) / present.clamp(min=1)
        return mean


class MonthLast(nn.Module):
    """An entity's newest month; has no weights."""

    def forward(self, months: Tensor) -> Tensor:
        """[B, D] from months [B, M, D], the newest last, as MonthAttention."""
        present = _present(months)
        place = torch.arange(1, months.shape[1] + 1, device=months.device)
        newest = (present * place).argmax(1)
        return months[torch.arange(len(months), device=months.device), newest]


class MergedMemory(nn.Module):
    """One frozen vector per entity: `rows` rows of `dimension`, sharded over the ranks."""

    def __init__(self, rows: int, dimension: int, exchange: Exchange) -> None:
        super().__init__()
        self.table = ShardedTable(rows, dimension, exchange)
        self.outputs = 2 * dimension

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, 2 * dimension], the user's then the item's, from their vectors [B, 2, dimension] in the table."""
        return vectors.flatten(1)


class SnapshotMemory(nn.Module):
    """Snapshots as one frozen table, and the pooling over them, separate for users and items.

    A row holds the entity's vector of each snapshot, the oldest first, and in its last column whether it is an item. A
    vector that no snapshot has is zero.
    """

    def __init__(self, rows: int, spec: MemorySpec, exchange: Exchange) -> None:
        super().__init__()
        self.snapshots, self.dimension = spec.snapshots, spec.dimension
        self.table = ShardedTable(rows, len(self.snapshots) * self.dimension + 1, exchange)
        self.user, self.item = _pooling(spec), _pooling(spec)
        self.outputs = 2 * self.dimension

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, 2 * dimension], the user's then the item's, from their vectors [B, 2, D] in the table."""
        months = self._months(vectors)
        return torch.cat([self.user(months[:, 0]), self.item(months[:, 1])], 1)

    def fill(self, files: Iterable[str]) -> None:
        """Fills this rank's rows from Parquet files of the snapshots table, with columns index and vector and with
        `model_id=` and `entity=` in their paths. An index without a vector stays zero.

        Raises ConfigError where a file's path, model or vectors do not fit.
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
        """The memory with the pooling applied once to each row that this rank holds."""
        memory = MergedMemory(self.table.rows, self.dimension, self.table.exchange)
        for source, target in zip(
            torch.split(self.table.weight, _CHUNK), torch.split(memory.table.weight, _CHUNK), strict=True
        ):
            months = self._months(source)
            target.copy_(torch.where(source[:, -1:] == _ITEM, self.item(months), self.user(months)))
        return memory

    def _months(self, vectors: Tensor) -> Tensor:
        return vectors[..., :-1].reshape(*vectors.shape[:-1], len(self.snapshots), self.dimension)

    def _place(self, file: str) -> tuple[int, float]:
        """The first column of the file's snapshot, and the value of the last column for its entity."""
        folders = dict(folder.split("=", 1) for folder in unquote(file).split("/") if "=" in folder)
        model, entity = folders.get("model_id"), folders.get("entity")
        if model not in self.snapshots or entity not in ("user_id", "item_id"):
            wanted = ", ".join(self.snapshots) or "none"
            raise ConfigError(
                f"snapshots: {file} is of model {model} and entity {entity}; expected one of {wanted} and user_id or"
                " item_id: name the files of the memory's snapshots"
            )
        return self.snapshots.index(model) * self.dimension, _ITEM if entity == "item_id" else 0.0


def memory_of(spec: ModelSpec, exchange: Exchange) -> MergedMemory | SnapshotMemory | None:
    """The untrained memory that a spec asks for."""
    if spec.memory is None:
        return None
    if spec.memory.pooling == "merged":
        return MergedMemory(spec.rows, spec.memory.dimension, exchange)
    return SnapshotMemory(spec.rows, spec.memory, exchange)


def merge_memory(spec: ModelSpec, model: nn.Module) -> ModelSpec:
    """Replaces a model's pooling over snapshots, if it has one, by the merged table, in place. Returns the new spec.
    Predictions stay the same."""
    memory = getattr(model, "memory", None)
    if spec.memory is None or not isinstance(memory, SnapshotMemory):
        return spec
    model.memory = memory.merged()
    return replace(spec, memory=MemorySpec(pooling="merged", dimension=spec.memory.dimension))


def _pooling(spec: MemorySpec) -> nn.Module:
    if spec.pooling == "attention":
        return MonthAttention(spec.dimension)
    return MonthMean() if spec.pooling == "mean" else MonthLast()


def _present(months: Tensor) -> Tensor:
    """Which of the months [B, M, D] an entity has, [B, M]."""
    return months.abs().amax(-1) > 0


def _read(file: str, dimension: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows int64 [n] and vectors float32 [n, dimension] of a snapshot file, in pieces."""
    columns = ["index", "vector"]
    with opened(Root(file), columns) as content:
        for piece in content.iter_batches(_CHUNK, columns=columns):
            values = piece.column("vector").flatten().to_numpy(zero_copy_only=False)
            if len(values) != len(piece) * dimension:
                raise ConfigError(
                    f"snapshots: {file} has no vectors of {dimension}: train the model that left them again"
                )
            rows = torch.tensor(piece.column("index").to_numpy(), dtype=torch.int64)
            yield rows, torch.tensor(values, dtype=torch.float32).view(len(piece), dimension)
