"""Row-wise Adagrad on the rows that a step touched: by torch, or by FBGEMM's fused kernel where that is installed.

A row's gradients are summed before anything is squared. With G their sum times `scale`, for each row

    state += mean(G^2),    weight -= learning_rate * G / (sqrt(state) + epsilon)

(Adagrad, Duchi et al. 2011, with one state per row as in Mudigere et al. 2022, arXiv 2104.05158).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ecdctr_spark.models.groups import Groups, gather, group, group_in_room, sum_groups
from ecdctr_spark.settings.base import ConfigError

_EPSILON = 1e-10


class Rows(NamedTuple):
    """This rank's rows of a table: `weight` [R, D] and `state` [R], both float32."""

    weight: Tensor
    state: Tensor


Number = float | Tensor  # a tensor of no dimension on the table's device: one that changes between steps of a graph


class Update(Protocol):
    """Updates the table in place by the `gradients` [N, D] of `rows` [N] int32, which may repeat."""

    def __call__(self, table: Rows, rows: Tensor, gradients: Tensor, scale: Number, learning_rate: Number) -> None: ...


def by_torch(table: Rows, rows: Tensor, gradients: Tensor, scale: Number, learning_rate: Number) -> None:
    """See Update; by torch's own operations."""
    _by_groups(table, group(rows), gradients, scale, learning_rate)


def in_room(table: Rows, rows: Tensor, gradients: Tensor, scale: Number, learning_rate: Number) -> None:
    """See Update; as by_torch, with shapes that depend on those of the arguments alone. What it writes to row 0, the
    padding, has no meaning."""
    room = min(len(rows), len(table.weight))  # of the rows that differ there are no more
    _by_groups(table, group_in_room(rows, room), gradients, scale, learning_rate)


def _by_groups(table: Rows, groups: Groups, gradients: Tensor, scale: Number, learning_rate: Number) -> None:
    gradient, touched = sum_groups(gradients, groups).mul_(scale), groups.distinct.to(torch.int64)
    squared = torch.linalg.vector_norm(gradient, dim=1).square_().div_(gradient.shape[1])
    state = table.state.index_select(0, touched).add_(squared)
    table.state.index_copy_(0, touched, state)
    rate = state.sqrt_().add_(_EPSILON).reciprocal_().mul_(-learning_rate)
    # Rows are distinct, so they can be read, changed and written back, which is faster than an addition in place.
    moved = gather(table.weight, touched).addcmul_(gradient, rate.unsqueeze(1))
    table.weight.index_copy_(0, touched, moved)


def by_fbgemm(table: Rows, rows: Tensor, gradients: Tensor, scale: Number, learning_rate: Number) -> None:
    """See Update; by FBGEMM's table-batched embedding, whose backward pass is the update, in one kernel.

    Raises ConfigError where FBGEMM is not installed.
    """
    kernel, place = _fused(*table.weight.shape, table.weight.device), _PLACES[table.weight.device.type]
    offsets = torch.tensor([0, len(rows)], device=rows.device)
    setattr(kernel, f"weights_{place}", nn.Parameter(table.weight.view(-1)))  # no copy: the table itself
    setattr(kernel, f"momentum1_{place}", nn.Parameter(table.state))
    kernel.set_learning_rate(learning_rate)
    with torch.enable_grad():
        vectors = kernel(rows.to(torch.int64), offsets)
    vectors.backward(gradients * scale)


# Resuming is bit-equal with torch. FBGEMM's results differ in the last bits.
UPDATES: dict[str, Update] = {"torch": by_torch, "fbgemm": by_fbgemm}

_PLACES = {"cpu": "host", "cuda": "dev"}  # FBGEMM's name for the device of a table's tensors


@lru_cache(maxsize=16)
def _fused(rows: int, dimension: int, device: torch.device) -> Any:
    """FBGEMM's kernel for tables of this shape; by_fbgemm points it at a table for each update."""
    try:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )
    except ImportError as error:
        raise ConfigError(
            f"train.kernel fbgemm: FBGEMM cannot be imported ({error}); install fbgemm-gpu (or fbgemm-gpu-cpu) of the"
            " version made for your torch, or set it to torch"
        ) from error
    on_cpu = device.type == "cpu"
    location = EmbeddingLocation.HOST if on_cpu else EmbeddingLocation.DEVICE
    return SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, dimension, location, ComputeDevice.CPU if on_cpu else ComputeDevice.CUDA)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        eps=_EPSILON,
        pooling_mode=PoolingMode.NONE,
        device=device,
    )
