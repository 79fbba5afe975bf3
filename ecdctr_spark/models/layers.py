"""Building blocks of the networks: MLP with batch norm, pooling of behaviours, cross network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Mlp(nn.Sequential):
    """[B, inputs] -> [B, outputs]: a linear layer, batch norm and ReLU for each width in `hidden`."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((inputs, *hidden)):
            layers += [nn.Linear(narrow, wide), nn.BatchNorm1d(wide), nn.ReLU()]
        super().__init__(*layers)
        self.outputs = (inputs, *hidden)[-1]


class TargetAttention(nn.Module):
    """Behaviours weighted by their relevance to the target and summed (DIN, Zhou et al. 2018, arXiv 1706.06978,
    section 4.3). Weights are not normalised, so the sum keeps the strength of the interest.

    A weight is an MLP of [q, k, q - k, q * k]. Its first layer is linear, and q - k adds nothing to a linear function
    of q and k. So that layer is the sum of three, of which that of q is applied once per sample.
    """

    def __init__(self, dimension: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = (*hidden, 1)
        self.of_query = nn.Linear(dimension, widths[0])
        self.of_key = nn.Linear(dimension, widths[0], bias=False)
        self.of_product = nn.Linear(dimension, widths[0], bias=False)
        rest: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            rest += [nn.ReLU(), nn.Linear(narrow, wide)]
        self.rest = nn.Sequential(*rest)

    def forward(self, query: Tensor, keys: Tensor, present: Tensor) -> Tensor:
        """Interest [B, D] of query [B, D] in keys [B, L, D] with mask present [B, L] (False: padding). Zero where none
        is present."""
        first = self.of_query(query).unsqueeze(1) + self.of_key(keys) + self.of_product(keys * query.unsqueeze(1))
        weights = self.rest(first).squeeze(-1) * present
        interest: Tensor = weights.unsqueeze(1) @ keys
        return interest.squeeze(1)


class MeanPooling(nn.Module):
    """The mean of the behaviours that are present, whatever the target: the baseline of attention."""

    def forward(self, query: Tensor, keys: Tensor, present: Tensor) -> Tensor:
        """[B, D] from keys [B, L, D] and mask present [B, L], as TargetAttention; the query is ignored."""
        total: Tensor = (keys * present.unsqueeze(-1)).sum(1)
        return total / present.sum(1, keepdim=True).clamp(min=1)


class CrossNetwork(nn.Module):
    """[B, W] -> [B, W]: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (DCN-V2, Wang et al. 2021, arXiv 2008.13535, eq. 1).
    Without layers the identity."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, W] from inputs [B, W]."""
        crossed = inputs
        for layer in self.layers:
            crossed = inputs * layer(crossed) + crossed
        return crossed
