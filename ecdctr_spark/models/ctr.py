"""The complete network: CPM on natural logs and A-CTR on ads are the same one (paper, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.fields import Asked, Beside, Fields, normed_numbers, position_of
from ecdctr_spark.models.layers import CrossNetwork, MeanPooling, Mlp, TargetAttention
from ecdctr_spark.models.memory import memory_of
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.networks import CtrSettings


class Ctr(nn.Module):
    """The complete network.

    Its inputs are the vectors of the ids, the numbers, the interest in each behaviour sequence and the memory of user
    and item, concatenated. They pass through a cross network and an MLP in parallel, whose outputs make the logit. With
    no cross layers, or no hidden ones, that part passes its inputs on unchanged. Raises ConfigError where the contract
    lacks an id that the network needs.
    """

    def __init__(self, settings: CtrSettings, spec: ModelSpec, exchange: Exchange) -> None:
        super().__init__()
        contract = spec.contract
        self.fields = Fields(spec, exchange)
        self.numbers = normed_numbers(spec)
        self.interests = nn.ModuleList(_pooling(settings) for _ in contract.sequences)
        self.user, self.item = position_of(spec, "user_id"), position_of(spec, "item_id")
        self.memory = memory_of(spec, exchange)
        width = (len(contract.ids) + len(contract.sequences)) * settings.dimension + len(contract.numbers)
        width += self.memory.outputs if self.memory else 0
        self.cross = CrossNetwork(width, settings.cross_layers)
        self.mlp = Mlp(width, settings.hidden)
        self.output = nn.Linear(width + self.mlp.outputs, 1)

    def ask(self, batch: Batch) -> Asked:
        """See Asks."""
        return self.fields.ask(batch, self._beside())

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B] float32."""
        fields = self.fields(batch, self._beside())
        inputs = [*fields.ids, self.numbers(batch.numbers)]
        for interest, position, behaviours in zip(self.interests, self.fields.positions, fields.sequences, strict=True):
            inputs.append(interest(fields.ids[position], behaviours))
        if self.memory:
            inputs.append(self.memory(*fields.beside))
        joined = torch.cat(inputs, 1)
        # Weights are split rather than the two parts joined: of them there is one row, of the parts one per sample.
        of_cross, of_mlp = torch.split(self.output.weight, [joined.shape[1], self.mlp.outputs], 1)
        logits = F.linear(self.cross(joined), of_cross, self.output.bias) + F.linear(self.mlp(joined), of_mlp)
        return logits.squeeze(1)

    def _beside(self) -> list[Beside]:
        return [Beside(self.memory.table, (self.user, self.item))] if self.memory else []


def _pooling(settings: CtrSettings) -> nn.Module:
    if settings.pooling == "mean":
        return MeanPooling()
    return TargetAttention(settings.dimension, settings.attention_hidden)
