"""The tiny pre-training model: a few basic features and a shallow MLP (paper, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.fields import Asked, Fields, normed_numbers
from ecdctr_spark.models.layers import Mlp
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.networks import TinySettings


class Tiny(nn.Module):
    """The vectors of the ids and the numbers, concatenated, through the MLP. Raises ConfigError where the contract has
    behaviours."""

    def __init__(self, settings: TinySettings, spec: ModelSpec, exchange: Exchange) -> None:
        super().__init__()
        if spec.contract.sequences:
            names = ", ".join(sequence.name for sequence in spec.contract.sequences)
            raise ConfigError(
                f"network tiny: reads no behaviours, but features.fields declares {names} as basic: set basic: false"
            )
        self.fields = Fields(spec, exchange)
        self.numbers = normed_numbers(spec)
        self.mlp = Mlp(len(spec.contract.ids) * settings.dimension + len(spec.contract.numbers), settings.hidden)
        self.output = nn.Linear(self.mlp.outputs, 1)

    def ask(self, batch: Batch) -> Asked:
        """See Asks."""
        return self.fields.ask(batch)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B] float32."""
        inputs = torch.cat([*self.fields(batch).ids, self.numbers(batch.numbers)], 1)
        logits: Tensor = self.output(self.mlp(inputs))
        return logits.squeeze(1)
