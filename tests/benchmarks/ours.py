"""This project's part of bench-train: the sharded embedding under the trainer's own step, and the floor under it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn

from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import ALONE, Exchange
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.step import start_state, step
from tests.benchmarks.turns import BATCH, DIMENSION, FIELDS, Contestant, Workload, network, serve

WITH_FBGEMM = "ecdctr_spark with FBGEMM's updates"
TRAIN = Optimisation(
    batch_size=BATCH,
    epochs=1,
    embedding_learning_rate=0.05,
    dense_learning_rate=1e-3,
    weight_decay=0.0,
    gradient_clip=10.0,
    seed=1,
)


class Deep(nn.Module):
    """The bench's network over one table that holds all fields."""

    def __init__(self, rows: int, exchange: Exchange) -> None:
        super().__init__()
        self.embedding = ShardedEmbedding(rows * FIELDS, DIMENSION, exchange, seed=1)
        self.network = network()

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B]."""
        vectors: Tensor = self.embedding(batch.ids)
        logits: Tensor = self.network(vectors.flatten(1))
        return logits.squeeze(1)


def batch_of(ids: Tensor, labels: Tensor, rows: int) -> Batch:
    """A field's ids become rows of the one table, as the samples hold them."""
    nothing = torch.empty(len(labels), 0)
    return Batch((ids + torch.arange(FIELDS) * rows).int(), nothing, {}, labels, torch.ones(len(labels)))


def sharded(workload: Workload, train: Optimisation = TRAIN) -> Contestant:
    """One rank with the trainer's own step, and the memory that it keeps."""
    keep_freed_memory()
    state = start_state(Deep(workload.rows, ALONE), train, ALONE)
    return Contestant(lambda ids, labels: batch_of(ids, labels, workload.rows), lambda batch: step(state, batch, 0))


def with_fbgemm(workload: Workload) -> Contestant:
    """The same, whose rows are updated by FBGEMM's kernel."""
    return sharded(workload, replace(TRAIN, kernel="fbgemm"))


def floor(workload: Workload) -> Contestant:
    """The network alone, fed from memory: each batch has vectors of its own, as if they had been looked up."""
    del workload
    model = network().to(ALONE.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def update(batch: tuple[Tensor, Tensor]) -> None:
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(model(batch[0]).squeeze(1), batch[1]).backward()
        optimiser.step()

    def prepare(ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randn(len(ids), FIELDS * DIMENSION, device=ALONE.device), labels.to(ALONE.device)

    return Contestant(prepare, update)


if __name__ == "__main__":
    serve({"ecdctr_spark": sharded, WITH_FBGEMM: with_fbgemm, "floor": floor})
