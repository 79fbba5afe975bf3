"""The step as one CUDA graph, where it is the faster one.

A step is some 300 small operations, and to launch them one by one takes a GPU several times as long as to do them. A
CUDA graph launches all at once, but repeats them as they were: with the same shapes, at the same addresses, and without
asking the GPU for a number on the way. So here a step

- has room for `batch_size` rows. Those that a batch lacks are padding of weight zero, which batch norm leaves out
  (models/layers.py, BatchNorm);
- has room for a share of the places in sequences, in sixteenths: a graph is captured for each share that comes up.
  So the shapes of a step, and the last bits of its results, depend on its own batch alone, and a training that resumes
  repeats what it would have done;
- finds all its inputs in one block: the batch and the factors of the step, which the CPU works out as for an eager one.
  The block is written to pinned memory and copied while the GPU is still at the step before;
- adds its totals up on the GPU. They are read every few steps, and at the end of each `fit`, so before any checkpoint.

The eager step (training/step.py) works on the same tensors, so both may alternate: a batch that does not fit, like one
of a single row, is for the eager one.

Nothing is taken on trust. Each graph is tried beside the eager step before it is used, on a batch of the training, and
the model is put back as it was. Eager steps are made to the end where a graph cannot be captured, where its results are
others, or where it is not faster. The event `training step chosen` (events.py) says which, and why.

Under bfloat16 an eager step also casts each weight and input, which are launches on top; in a graph they cost next to
nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from ecdctr_spark.events import event
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.layers import BatchNorm
from ecdctr_spark.models.rowwise_adagrad import in_room
from ecdctr_spark.training.step import Eager, Steps, Totals, TrainState, cleared, clip, loss_of, rates_of, rows_of, step

Work = Callable[[], object]
Record = Callable[[Work], Work]  # makes of some work on a GPU what repeats it; may do it, but need not

LEAST_STEPS = 100  # of a training: to capture and to measure takes as long as some 20 eager steps
_READ_EVERY = 32  # steps between two readings of the totals
_SIXTEENTHS = 16
_MEASURED = 10  # steps of each kind
_BLOCKS = 2  # of pinned memory: one is written while the other is copied
# Largest difference of results, as a share of what a step changes: rounding of other orders of sums stays far below.
_TOLERANCE = {"float32": 0.01, "bfloat16": 0.2}
_ROUNDING = 1e-4  # share of a tensor that counts as changed, whatever the step: its rounding must not be judged


class _NotChosenError(Exception):
    """Why the captured step is not taken."""


def steps_of(state: TrainState, planned: int) -> Steps:
    """How a training of `planned` steps makes them: eagerly, or captured where this is possible and faster."""
    if state.world.device.type != "cuda":
        return Eager(state)
    if obstacle := _obstacle(state, planned):
        if state.world.rank == 0:
            event("training step chosen", choice="eager", reason=obstacle)
        return Eager(state)
    return Captured(state, Graphs())


def _obstacle(state: TrainState, planned: int) -> str | None:
    """Why the steps cannot be captured, or need not be."""
    train = state.train
    obstacles = {
        f"a captured step is of one rank, not of {state.world.size}": state.world.size > 1,
        f"a captured step is one pass, not {train.accumulation_steps}": train.accumulation_steps > 1,
        f"a captured step updates by torch, not by {train.kernel}": train.kernel != "torch",
        "the model's batch norm counts padding": any(not isinstance(norm, BatchNorm) for norm in state.norms),
        f"{planned} steps are too few to be worth it": planned < LEAST_STEPS,
    }
    return next((reason for reason, holds in obstacles.items() if holds), None)


class Captured:
    """Steps by replaying what `record` made of `update`; eager ones for batches that do not fit. See Steps.

    `milliseconds` measures some work, repeated.
    """

    def __init__(self, state: TrainState, record: Record, milliseconds: Callable[[Work], float] | None = None) -> None:
        self._state, self._record = state, record
        self._milliseconds = milliseconds or _milliseconds
        self._totals = torch.zeros(len(Totals()), dtype=torch.float64, device=state.world.device)
        self._unread = 0
        self._replays: dict[float, Work] = {}  # by the room of their batch
        self._inputs: Inputs | None = None  # of every graph, once there is one
        self._send: Callable[[Batch, Sequence[float]], None]
        self._given_up = False
        self._figures: dict[str, float] = {}  # of the event, once they are measured

    def make(self, batch: Batch, number: int) -> Totals:
        """See Steps."""
        replay = self._replay_for(batch, number)
        if replay is None:
            return step(self._state, batch, number)
        self._replayed(replay, batch, number)
        self._unread += 1
        return self.rest() if self._unread == _READ_EVERY else Totals()

    def rest(self) -> Totals:
        """See Steps."""
        if not self._unread:
            return Totals()
        totals = Totals(*self._totals.tolist())
        self._totals.zero_()
        self._unread = 0
        return totals

    def _replay_for(self, batch: Batch, number: int) -> Work | None:
        """What makes the step of this batch, None where the eager step does."""
        rows = self._state.train.batch_size
        fits = 1 < len(batch) <= rows and rows_of(batch) == len(batch)
        if self._given_up or not fits:
            return None
        room = room_of(batch, rows)
        if room not in self._replays:
            try:
                self._replays[room] = self._tried(room, batch, number)
            except Exception as error:  # whatever it is: the eager step does the same
                self._given_up = True
                kind = "" if isinstance(error, _NotChosenError) else f"{type(error).__name__}: "
                reason = f"{kind}{error}".partition("\n")[0]
                event("training step chosen", choice="eager", reason=reason, **self._figures)
        return self._replays.get(room)

    def _tried(self, room: float, batch: Batch, number: int) -> Work:
        """A replay for batches of this room, compared with the eager step on all rows of a batch but one, so that one
        is padding. Raises _NotChosenError where it is not as good. Leaves the training as it was."""
        few = batch.take(torch.arange(max(2, len(batch) - 1)))
        eager = partial(step, self._state, few, number)
        trial = _Trial(self._state, few, self._totals)
        try:
            expected = trial.after(lambda: self._totals.add_(self._totals.new_tensor(eager())))
            replay = self._record(self._work(few, number, room))
            captured = partial(self._replayed, replay, few, number)
            difference = trial.difference(trial.after(captured), expected)
            if not difference <= _TOLERANCE[self._state.train.precision]:  # NaN is not within it either
                raise _NotChosenError(f"captured, it differs by {difference:.2g} of what a step changes")
            if not self._replays:
                self._measure(captured, eager)
        finally:
            trial.put_back()
        return replay

    def _measure(self, captured: Work, eager: Work) -> None:
        times = self._milliseconds(captured), self._milliseconds(eager)
        self._figures = dict(zip(("captured_ms", "eager_ms"), (round(each, 3) for each in times), strict=True))
        if times[0] >= times[1]:
            raise _NotChosenError("the captured step is not faster")
        event("training step chosen", choice="captured", reason="it is faster", **self._figures)

    def _work(self, batch: Batch, number: int, room: float) -> Work:
        """The step to be recorded. Its inputs are those of this batch: recording may do it."""
        factors = self._factors(number)
        if self._inputs is None:
            device = self._state.world.device
            lay_out = partial(laid_out, batch, self._state.train.batch_size, len(factors))
            self._inputs = lay_out(device)
            self._send = CopiedAhead(self._inputs, lay_out) if device.type == "cuda" else self._inputs.fill
        self._send(batch, factors)
        inputs = replace(self._inputs.batch, room=room)
        return partial(update, self._state, inputs, self._inputs.factors, self._totals)

    def _replayed(self, replay: Work, batch: Batch, number: int) -> None:
        """Starts a step, and does not wait for it."""
        self._send(batch, self._factors(number))
        self._state.optimiser.count()
        replay()

    def _factors(self, number: int) -> list[float]:
        rates = rates_of(self._state.train, number)
        return [rates.tables, *self._state.optimiser.factors(rates.dense)]


def update(state: TrainState, batch: Batch, factors: Tensor, totals: Tensor) -> None:
    """A step whose operations and shapes do not depend on values, and which reads none of them: what is captured.

    All tensors are on the model's device. Rows of weight zero are padding; `batch.room` is not None. `factors` [F]
    float32 are the learning rate of the tables and AdamW.factors; the step is added to `totals` [3] float64.
    """
    rate, *of_adam = factors.unbind()
    dense, own = cleared(state)
    here = (batch.weights > 0).float()
    rows = here.sum()
    with _sharing(state, here / rows):
        loss = loss_of(state.model, batch, state.train.precision, state.objective)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.stack([loss.detach(), batch.weights.sum(), rows], out=own)
    totals.add_(own)
    scale = own[1].reciprocal()
    clip(dense, state.train.gradient_clip, scale)
    state.optimiser.move(dense, of_adam)
    for embedding in state.embeddings:
        embedding.step(rate, scale, in_room)


def room_of(batch: Batch, rows: int) -> float:
    """The room (Batch.room) of a batch on the CPU that is padded to `rows` rows: its largest share of places with a
    behaviour, rounded up to sixteenths."""
    sequences = batch.sequences.values()
    shares = [int(torch.count_nonzero(each)) / (rows * each.shape[1]) for each in sequences]
    return max(1, math.ceil(max(shares, default=1.0) * _SIXTEENTHS)) / _SIXTEENTHS


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
    before, and these do not wait for it."""

    def __init__(self, inputs: Inputs, lay_out: Callable[..., Inputs]) -> None:
        self._target, device = inputs.block, inputs.block.device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        pinned = (lay_out(torch.device("cpu"), pinned=True) for _ in range(_BLOCKS))
        self._blocks = cycle([_Block(inputs, device) for inputs in pinned])

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


class Graphs:
    """Records work as CUDA graphs. They share the memory of what they work out on the way, since they never run at
    once and read nothing of it afterwards."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """The replay of some work, which is done once before it is captured: libraries set themselves up then."""
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)
        # Only this thread's calls are watched: others, of MLflow's monitor, may ask the GPU what they like.
        with torch.cuda.graph(graph, pool=self._memory, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


@contextmanager
def _sharing(state: TrainState, shares: Tensor) -> Iterator[None]:
    """Trains the model's batch norm by these shares of rows."""
    norms = [norm for norm in state.norms if isinstance(norm, BatchNorm)]
    for norm in norms:
        norm.training, norm.shares = True, shares
    try:
        yield
    finally:
        for norm in norms:
            norm.shares = None


class _Trial:
    """Steps on one batch from one state of the training: all that they change is put back."""

    def __init__(self, state: TrainState, batch: Batch, totals: Tensor) -> None:
        self._state, self._steps = state, state.optimiser.steps
        norms = (buffer for norm in state.norms for buffer in norm.buffers())
        self._whole = [*state.optimiser.vectors(), totals, *norms]
        self._rows = list(_rows_read(state, batch))
        self._before = self._now()

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
        root = expected[2].sqrt()  # Adam moves a parameter whose gradient is rounding alone as far as any other
        weighed = ([values * root, *others] for values, *others in (found, expected, self._before))
        return max(map(_difference, *weighed), key=lambda share: math.inf if math.isnan(share) else share)

    def _now(self) -> list[Tensor]:
        rows = (table.index_select(0, chosen) for table, chosen in self._rows)
        return [*(tensor.clone() for tensor in self._whole), *rows]


@torch.no_grad()
def _rows_read(state: TrainState, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor of the embeddings' rows, and those of its rows that a step on this batch changes: what it looks up,
    and the padding."""
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
        yield from ((tensor, rows) for tensor in embedding.row_tensors().values())


def _difference(found: Tensor, expected: Tensor, before: Tensor) -> float:
    """The norm of a difference, as a share of that of the change."""
    change, size = (expected - before).double().norm(), expected.double().norm()
    return float((found - expected).double().norm() / (change + _ROUNDING * size).clamp(min=1e-30))


def _milliseconds(work: Work) -> float:
    """The time that some work takes on the GPU and the CPU, the mean of several times in a row."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(_MEASURED):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) * 1000 / _MEASURED
