"""A model's tensors by name: the dense ones, and each rank's share of the tables."""

from __future__ import annotations

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
