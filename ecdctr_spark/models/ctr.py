"""The complete network: CPM on natural logs and A-CTR on ads are the same one (paper, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.fields import Fields, normed_numbers, position_of
from ecdctr_spark.models.layers import CrossNetwork, MeanPooling, Mlp, TargetAttention
from ecdctr_spark.models.memory import MergedMemory, SnapshotMemory
from ecdctr_spark.models.spec import ModelSpec


class Ctr(nn.Module):
    """Ids, numbers, the interest in each behaviour sequence and the memory of user and item, side by side; through a
    cross network and an MLP in parallel, whose outputs make the logit. Without cross layers, or without hidden ones,
    that part hands its inputs on as they are."""

    def __init__(self, spec: ModelSpec, exchange: Exchange) -> None:
        super().__init__()
        contract = spec.contract
        self.fields = Fields(spec, exchange)
        self.numbers = normed_numbers(spec)
        self.interests = nn.ModuleList(_pooling(spec) for _ in contract.sequences)
        self.user, self.item = position_of(spec, "user_id"), position_of(spec, "item_id")
        self.memory = _memory(spec, exchange)
        width = (len(contract.ids) + len(contract.sequences)) * spec.dimension + len(contract.numbers)
        width += self.memory.outputs if self.memory else 0
        self.cross = CrossNetwork(width, spec.cross_layers)
        self.mlp = Mlp(width, spec.hidden)
        self.output = nn.Linear(width + self.mlp.outputs, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B]."""
        fields = self.fields(batch)
        inputs = [fields.ids.flatten(1), self.numbers(batch.numbers)]
        for interest, position, (keys, present) in zip(
            self.interests, self.fields.positions, fields.sequences, strict=True
        ):
            inputs.append(interest(fields.ids[:, position], keys, present))
        if self.memory:
            inputs.append(self.memory(fields.rows[:, self.user], fields.rows[:, self.item]))
        joined = torch.cat(inputs, 1)
        logits: Tensor = self.output(torch.cat([self.cross(joined), self.mlp(joined)], 1))
        return logits.squeeze(1)


def merge_memory(spec: ModelSpec, model: nn.Module) -> ModelSpec:
    """Replaces a model's attention over snapshots, if it has one, by the merged table; the spec of what it is then.
    Its predictions stay the same."""
    memory = getattr(model, "memory", None)
    if not isinstance(memory, SnapshotMemory):
        return spec
    model.memory = memory.merged()
    return spec.model_copy(update={"memory": "merged", "months": ()})


def _pooling(spec: ModelSpec) -> nn.Module:
    return TargetAttention(spec.dimension, spec.attention_hidden) if spec.pooling == "attention" else MeanPooling()


def _memory(spec: ModelSpec, exchange: Exchange) -> MergedMemory | SnapshotMemory | None:
    if spec.memory == "snapshots":
        return SnapshotMemory(spec, exchange)
    if spec.memory == "merged":
        return MergedMemory(spec.rows, spec.memory_dimension, exchange)
    return None
