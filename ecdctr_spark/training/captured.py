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
of a few rows, is for the eager one.

Nothing is taken on trust. Each graph is tried beside the eager step before it is used, on a batch of the training, and
the model is put back as it was (training/trial.py). Steps are eager to the end where a graph cannot be captured, where
its results are others, or where it is not faster. The event `training step chosen` (events.py) says which, and why. The
first choice is made before the first step, so a training repeated is the same bit for bit where the choice is.

Under bfloat16 an eager step also casts each weight and input, which are launches on top; in a graph they cost next to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ecdctr_spark.events import event
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.layers import BatchNorm
from ecdctr_spark.models.rowwise_adagrad import in_room
from ecdctr_spark.training.inputs import CopiedAhead, Inputs, laid_out, room_of
from ecdctr_spark.training.step import Eager, Steps, Totals, TrainState, cleared, clip, loss_of, rates_of, rows_of, step
from ecdctr_spark.training.trial import Trial, Work, milliseconds

Record = Callable[[Work], Work]  # makes of some work what repeats it; may do it, but need not

LEAST_STEPS = 100  # of a training: to capture and to measure takes as long as some 20 eager steps
_LEAST_ROWS = 32  # of a batch: with a few, batch norm makes so much of rounding that no two steps are alike
_READ_EVERY = 32  # steps between two readings of the totals
# Largest difference of results, as a share of what a step changes. Other orders of sums make 1e-6 to 1e-3, padding that
# counted as rows about 0.3.
_TOLERANCE = {"float32": 0.05, "bfloat16": 0.2}


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

    `measure` gives the milliseconds that some work takes.
    """

    def __init__(self, state: TrainState, record: Record, measure: Callable[[Work], float] = milliseconds) -> None:
        self._state, self._record, self._measure = state, record, measure
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
        fits = _LEAST_ROWS <= len(batch) <= rows and rows_of(batch) == len(batch)
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
        """A replay for batches of this room. Raises _NotChosenError where it is not as good as the eager step. Leaves
        the training as it was."""
        few = batch.take(torch.arange(len(batch) * 3 // 4))  # so that a good part of the rows is padding
        trial = Trial(self._state, batch, self._totals)
        try:
            expected = trial.after(lambda: self._totals.add_(self._totals.new_tensor(step(self._state, few, number))))
            replay = self._record(self._work(few, number, room))
            difference = trial.difference(trial.after(partial(self._replayed, replay, few, number)), expected)
            if not difference <= _TOLERANCE[self._state.train.precision]:  # NaN is not within it either
                raise _NotChosenError(f"captured, it differs by {difference:.2g} of what a step changes")
            if not self._replays:
                self._choose(partial(self._replayed, replay, batch, number), partial(step, self._state, batch, number))
        finally:
            trial.put_back()
        return replay

    def _choose(self, captured: Work, eager: Work) -> None:
        """Raises _NotChosenError where the captured step is not faster than the eager one."""
        of_captured, of_eager = self._measure(captured), self._measure(eager)
        self._figures = {"captured_ms": round(of_captured, 3), "eager_ms": round(of_eager, 3)}
        if of_captured >= of_eager:
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


class Graphs:
    """Records work as CUDA graphs. They share the memory of what they work out on the way, since they never run at
    once and read nothing of it afterwards."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, work: Work) -> Work:
        """The replay of some work, which is done once before it is captured: libraries set themselves up then."""
        graph, present = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):  # left also where a capture fails, which does not leave its own
            work()
            # Only this thread's calls are watched: others, of MLflow's monitor, may ask the GPU what they like.
            with torch.cuda.graph(graph, self._memory, self._stream, capture_error_mode="thread_local"):
                work()
        present.wait_stream(self._stream)
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
