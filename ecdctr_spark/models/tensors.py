"""A model's tensors by name: the dense ones, each rank's share of the tables, and the dense optimiser's state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecdctr_spark.models.embedding import ShardedTable


def dense_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and batch-norm statistics by name; they share the model's memory."""
    rows = row_tensors(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in rows}


def row_tensors(model: nn.Module) -> dict[str, Tensor]:
    """This rank's share of every table's tensors by name, [local rows, ...]; they share the model's memory."""
    return {
        f"{name}.{kind}": tensor
        for name, module in model.named_modules()
        if isinstance(module, ShardedTable)
        for kind, tensor in module.row_tensors().items()
    }


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The dense optimiser's state by `parameter/kind`; empty before the first step."""
    return {
        f"{name}/{kind}": tensor
        for name, parameter in model.named_parameters()
        for kind, tensor in optimiser.state[parameter].items()
    }
