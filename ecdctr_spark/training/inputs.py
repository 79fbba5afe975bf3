"""What a captured step reads (training/captured.py): one block of memory, which is filled ahead of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from ecdctr_spark.models.batch import Batch

_SIXTEENTHS = 16
_BLOCKS = 2  # of pinned memory: one is written while the other is copied


class Inputs(NamedTuple):
    """All that a step reads, in one `block` of memory: a batch of fixed shape, and `factors` [F] float32 (update)."""

    block: Tensor
    batch: Batch
    factors: Tensor

    def fill(self, batch: Batch, factors: Sequence[float]) -> None:
        """Writes a batch of at most as many rows; the others become padding."""
        for place, tensor in zip(self.batch.tensors(), batch.tensors(), strict=True):
            place[: len(batch)].copy_(tensor)
            place[len(batch) :].zero_()
        self.factors.copy_(torch.tensor(factors))


def laid_out(like: Batch, rows: int, factors: int, device: torch.device, pinned: bool = False) -> Inputs:
    """Inputs for `rows` rows of batches like this one, all padding."""
    tensors = like.tensors()
    sizes = [*(rows * tensor.shape[1:].numel() for tensor in tensors), factors]
    block = torch.zeros(sum(sizes), dtype=torch.int32, device=device, pin_memory=pinned)
    *pieces, last = torch.split(block, sizes)
    views = iter(
        (piece.view(torch.float32) if tensor.is_floating_point() else piece).view(rows, *tensor.shape[1:])
        for piece, tensor in zip(pieces, tensors, strict=True)
    )
    return Inputs(block, like.each(lambda _: next(views)), last.view(torch.float32))


class _Block:
    """Inputs in pinned memory, their `copy` on the GPU, and when that was last `written` and `read`."""

    def __init__(self, pinned: Inputs, device: torch.device) -> None:
        self.pinned, self.copy = pinned, torch.empty_like(pinned.block, device=device)
        self.written, self.read = (torch.cuda.Event() for _ in range(2))  # type: ignore[no-untyped-call]


class CopiedAhead:
    """Fills a GPU's inputs by way of pinned memory: what is slow, the copy to the GPU, does not wait for the steps
    before, and these do not wait for it. `lay_out(device, pinned)` gives inputs as these are elsewhere."""

    def __init__(self, inputs: Inputs, lay_out: Callable[..., Inputs]) -> None:
        self._target, device = inputs.block, inputs.block.device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        pinned = (lay_out(torch.device("cpu"), pinned=True) for _ in range(_BLOCKS))
        self._blocks = cycle([_Block(inputs, device) for inputs in pinned])
        self._stream.wait_stream(torch.cuda.current_stream())  # which may still use the memory that the copies got

    def __call__(self, batch: Batch, factors: Sequence[float]) -> None:
        """As Inputs.fill, for work that is started from now on."""
        block, present = next(self._blocks), torch.cuda.current_stream()
        block.written.synchronize()  # the copy from this pinned memory, two steps ago
        block.pinned.fill(batch, factors)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(block.read)
            block.copy.copy_(block.pinned.block, non_blocking=True)
            block.written.record(self._stream)
        present.wait_event(block.written)
        self._target.copy_(block.copy)
        block.read.record(present)


def room_of(batch: Batch, rows: int) -> float:
    """The room (Batch.room) of a batch on the CPU that is padded to `rows` rows: its largest share of places with a
    behaviour, rounded up to sixteenths."""
    sequences = batch.sequences.values()
    shares = [int(torch.count_nonzero(each)) / (rows * each.shape[1]) for each in sequences]
    return max(1, math.ceil(max(shares, default=1.0) * _SIXTEENTHS)) / _SIXTEENTHS
