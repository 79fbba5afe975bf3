"""Trying steps out in the middle of a training, which goes on as if nothing had been."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.training.step import TrainState

Work = Callable[[], object]

_MEASURED = 10  # repetitions
_ROUNDING = 1e-4  # share of a tensor that counts as changed, whatever the step: its rounding must not be judged


class Trial:
    """Steps on one batch from one state of the training: all that they change is put back."""

    def __init__(self, state: TrainState, batch: Batch, totals: Tensor) -> None:
        self._state, self._steps = state, state.optimiser.steps
        norms = (buffer for norm in state.norms for buffer in norm.buffers())
        self._whole = [*state.optimiser.vectors(), totals, *norms]
        self._rows = list(_rows_read(state, batch))
        self._before = self._now()
        # By the places in it: what moves by its gradient over a root of squares, and those squares.
        first, last = len(self._whole), len(self._before)
        self._squares = {0: 2, **dict(zip(range(first, last, 2), range(first + 1, last, 2), strict=True))}

    def after(self, work: Work) -> list[Tensor]:
        """All values after some work, whose effect is undone."""
        self.put_back()
        work()
        found = self._now()
        self.put_back()
        return found

    def put_back(self) -> None:
        """Makes everything as it was."""
        before = iter(self._before)
        for tensor in self._whole:
            tensor.copy_(next(before))
        for table, rows in self._rows:
            table.index_copy_(0, rows, next(before))
        self._state.optimiser.steps = self._steps
        for embedding in self._state.embeddings:
            embedding.forget()

    def difference(self, found: list[Tensor], expected: list[Tensor]) -> float:
        """The largest difference of a tensor from what is expected, as a share of the expected change; NaN where one
        is."""
        shares = []
        for place, values in enumerate(zip(found, expected, self._before, strict=True)):
            if place in self._squares:
                # What has a gradient of rounding alone moves as far as anything: it counts as its gradient does.
                root = expected[self._squares[place]].sqrt()
                shares.append(_difference(*(each.t() * root for each in values)))
            else:
                shares.append(_difference(*values))
        return max(shares, key=lambda share: math.inf if math.isnan(share) else share)

    def _now(self) -> list[Tensor]:
        rows = (table.index_select(0, chosen) for table, chosen in self._rows)
        return [*(tensor.clone() for tensor in self._whole), *rows]


@torch.no_grad()
def _rows_read(state: TrainState, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and state of each embedding in turn, and the rows of it that a step on this batch changes: what it looks
    up, and the padding."""
    asked: dict[ShardedEmbedding, list[Tensor]] = {embedding: [] for embedding in state.embeddings}
    hooks = [
        embedding.register_forward_pre_hook(lambda module, inputs: asked[module].append(inputs[0].flatten().long()))
        for embedding in state.embeddings
    ]
    state.model.eval()
    state.model(batch.to(state.world.device))
    state.model.train()
    for hook in hooks:
        hook.remove()
    for embedding, looked_up in asked.items():
        padding = torch.zeros(1, dtype=torch.int64, device=state.world.device)
        rows = torch.unique(torch.cat([padding, *looked_up]))
        yield from ((embedding.weight, rows), (embedding.state, rows))


def _difference(found: Tensor, expected: Tensor, before: Tensor) -> float:
    """The norm of a difference, as a share of that of the change."""
    change, size = (expected - before).double().norm(), expected.double().norm()
    return float((found - expected).double().norm() / (change + _ROUNDING * size).clamp(min=1e-30))


def milliseconds(work: Work) -> float:
    """The time that some work takes on the GPU and the CPU, the mean of several times in a row."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(_MEASURED):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) * 1000 / _MEASURED
