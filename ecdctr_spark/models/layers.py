"""Building blocks of the networks: MLP with batch norm, pooling of behaviours, cross network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecdctr_spark.models.behaviours import Behaviours, summed
from ecdctr_spark.models.groups import gather, sum_runs


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of [B, width] in which the rows of a batch may count differently.

    `shares` [B] are those of the rows in the batch's statistics, zero for padding, and sum to 1. None, the default: all
    count alike, which is nn.BatchNorm1d. They are read in training only.
    """

    shares: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """[B, width] of the input's type."""
        if self.shares is None or not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        shares, values = self.shares.unsqueeze(1), input.float()
        mean = (shares * values).sum(0)
        centred = values - mean
        variance = (shares * centred.square()).sum(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            # Of N equal shares the sum of squares is 1 / N: the unbiased variance.
            self.running_var.lerp_(variance / (1 - self.shares.square().sum()), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias, centred, scale).to(input.dtype)


class Mlp(nn.Sequential):
    """[B, inputs] -> [B, outputs]: a linear layer, batch norm and ReLU for each width in `hidden`."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((inputs, *hidden)):
            layers += [nn.Linear(narrow, wide), BatchNorm(wide), nn.ReLU(inplace=True)]
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
            rest += [nn.ReLU(inplace=True), nn.Linear(narrow, wide)]
        self.rest = nn.Sequential(*rest)

    def forward(self, query: Tensor, behaviours: Behaviours) -> Tensor:
        """Interest [B, D] of query [B, D] in the behaviours. Zero where a sample has none."""
        keys, owners = behaviours
        of_query = self.of_query(query)
        first = _FirstLayer.apply(  # type: ignore[no-untyped-call]
            of_query, query, keys, self.of_key.weight, self.of_product.weight, owners.sample, owners.starts
        )
        return summed(self.rest(first) * keys, owners)


class MeanPooling(nn.Module):
    """The mean of the behaviours that are present, whatever the target: the baseline of attention."""

    def forward(self, query: Tensor, behaviours: Behaviours) -> Tensor:
        """[B, D], as TargetAttention; the query is ignored."""
        keys, owners = behaviours
        return summed(keys, owners) / owners.counts.clamp(min=1).unsqueeze(1)


class CrossNetwork(nn.Module):
    """[B, W] -> [B, W]: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (DCN-V2, Wang et al. 2021, arXiv 2008.13535, eq. 1).
    Without layers the identity."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, W] from inputs [B, W]."""
        crossed: Tensor = inputs
        if self.layers:
            tensors = (tensor for layer in self.layers for tensor in layer.parameters())
            crossed = _Crossed.apply(inputs, *tensors)  # type: ignore[no-untyped-call]
        return crossed


# Autograd would give the functions below an operation for each sum of gradients, each a pass over the memory. Here a
# product adds to what is there. Under autocast, products are of the type of the layer's outputs, sums are float32.


class _FirstLayer(torch.autograd.Function):
    """[P, H] of_query + of_key k + of_product (q * k), of of_query [B, H], query q [B, D], keys k [P, D]."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        of_query, query, keys, of_key, of_product, sample, starts = inputs
        like, queries = of_query.dtype, gather(query, sample)
        products = keys * queries
        ctx.save_for_backward(keys, queries, products, of_key, of_product, starts)
        first = gather(of_query, sample).addmm_(keys.to(like), of_key.t().to(like))
        return first.addmm_(products.to(like), of_product.t().to(like))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (first,) = gradients
        keys, queries, products, of_key, of_product, starts = ctx.saved_tensors
        like = first.dtype
        of_products = (first @ of_product.to(like)).to(keys.dtype)
        of_keys = (first @ of_key.to(like)).to(keys.dtype).addcmul_(of_products, queries)
        of_query = sum_runs(first.contiguous(), starts)
        weights = first.t() @ keys.to(like), first.t() @ products.to(like)
        return of_query, sum_runs(of_products.mul_(keys), starts), of_keys, *weights, None, None


class _Crossed(torch.autograd.Function):
    """The cross network of inputs [B, W] with a weight [W, W] and a bias [W] of each layer in turn."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *layers: Tensor) -> Tensor:
        crossed, linear = [inputs], []
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            linear.append(F.linear(crossed[-1], weight, bias))
            crossed.append(torch.addcmul(crossed[-1], inputs, linear[-1]))
        ctx.save_for_backward(*crossed[:-1], *linear, *layers[::2])
        return crossed[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        depth = len(ctx.saved_tensors) // 3
        crossed, linear, weights = (ctx.saved_tensors[part * depth : (part + 1) * depth] for part in range(3))
        inputs, of_crossed, of_layers = crossed[0], gradients[0].clone(), list[Tensor]()
        of_inputs = of_crossed * linear[-1]
        for place in reversed(range(depth)):
            like = linear[place].dtype
            of_linear = (of_crossed * inputs).to(like)
            of_layers = [of_linear.t() @ crossed[place].to(like), of_linear.sum(0), *of_layers]
            _add_product(of_crossed, of_linear, weights[place].to(like))
            of_inputs = of_inputs.addcmul_(of_crossed, linear[place - 1]) if place else of_inputs.add_(of_crossed)
        return of_inputs, *of_layers


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds left @ right to a total, in one pass where their types are equal."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
