"""The training of any model on one of several ranks: one flat loop, with resuming, validation and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import on_wire
from ecdctr_spark.models.networks import build
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.batches import Stream
from ecdctr_spark.streaming.shards import Unit, split
from ecdctr_spark.training import resume
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.captured import steps_of
from ecdctr_spark.training.checkpoint import RestoreReport, load
from ecdctr_spark.training.job import Cursor, TrainingJob, TrainingResult
from ecdctr_spark.training.objective import CLICKS, Objective, Teaching
from ecdctr_spark.training.step import (
    Eager,
    Steps,
    Totals,
    TrainState,
    asked_ahead,
    average_batch_norm,
    evaluate,
    rows_of,
    start_state,
)
from ecdctr_spark.training.transfer import restore
from ecdctr_spark.training.world import World

Progress = Callable[[int, float], None]  # rows trained on so far by all ranks, their mean loss

_REPORT_SECONDS = 0.25


class Made(NamedTuple):
    """Steps made, and their totals."""

    steps: int = 0
    totals: Totals = Totals()


NOTHING = Made()


class _Attempt(NamedTuple):
    """An attempt at a job, and where its model's tensors came from."""

    job: TrainingJob
    state: TrainState
    restored: RestoreReport
    progress: Progress


def train(job: TrainingJob, world: World, progress: Progress) -> TrainingResult:
    """Runs a job and publishes the model at job.output. All ranks call it together with the same job.

    On a CPU the same job on the same number of ranks and threads gives the same weights bit for bit, also when it was
    killed and run again. `progress` is called on rank 0. Raises ConfigError where the job's files, parent or checkpoint
    do not fit it, RuntimeError where the loss is no longer finite.
    """
    keep_freed_memory()
    started = time.perf_counter()
    training, cursor = _begin(job, world, progress)
    resumed = cursor.steps
    parts = split(job.units, job.train.validation_share, job.train.seed)
    trained_on, held_out = (_stream(job, files, world) for files in parts)
    steps = steps_of(training.state, trained_on.steps(epoch=0) * job.train.epochs)
    while cursor.epoch < job.train.epochs and cursor.since_best < job.train.patience:
        cursor = _epoch(training, steps, trained_on, cursor)
        if held_out.files:
            cursor = _judged(training, held_out, cursor)
    if cursor.since_best:
        resume.restore_from(training.state, resume.best(job))
    totals, seconds = Totals(*cursor.totals), time.perf_counter() - started
    result = TrainingResult(
        rows=int(totals.rows),
        steps=cursor.steps,
        seconds=seconds,
        loss=totals.mean_loss,
        waiting=trained_on.waited / seconds,
        resumed=resumed,
        held_out=cursor.losses,
        ranks=world.size,
    )
    resume.finish(job, training.state, training.restored, result)
    return result


def fit(
    state: TrainState, batches: Iterable[Batch], progress: Progress, done: Made = NOTHING, steps: Steps | None = None
) -> Made:
    """Trains on this rank's batches, after the steps that are `done`, and returns all steps made. Every rank must bring
    the same number of batches. `steps` makes the state's steps, by default eagerly.

    A filler batch has weight zero and counts no row. Raises RuntimeError where the loss is no longer finite.
    """
    state.model.train()
    steps = steps or Eager(state)
    own_rows, reported, rank = 0, time.perf_counter(), state.world.rank
    one_pass = state.train.accumulation_steps == 1  # else a step asks ahead for its own passes
    for batch in asked_ahead(state, batches) if one_pass else batches:
        done = _with(done, steps.make(batch, done.steps), 1)
        own_rows += rows_of(batch)
        if rank == 0 and time.perf_counter() - reported >= _REPORT_SECONDS:
            progress(int(done.totals.rows), done.totals.mean_loss)
            reported = time.perf_counter()
    done = _with(done, steps.rest(), 0)
    average_batch_norm(state.model, own_rows, state.world)
    if rank == 0:
        progress(int(done.totals.rows), done.totals.mean_loss)
    return done


def _with(done: Made, known: Totals, steps: int) -> Made:
    """What is done after `steps` more, and with the totals that are known now."""
    done = Made(done.steps + steps, done.totals.plus(known))
    if not math.isfinite(done.totals.loss):
        raise RuntimeError(f"the loss is not finite at step {done.steps}: lower the learning rates")
    return done


def _stream(job: TrainingJob, files: Sequence[Unit], world: World) -> Stream:
    return Stream(files, job.model.contract, job.train, job.until, world.rank, world.size, job.reader)


def _objective(job: TrainingJob, world: World) -> Objective:
    if job.teacher is None:
        return CLICKS
    spec, teacher = load(Root.parse(job.teacher.checkpoint), on_wire(world, job.train.wire))
    if spec.contract != job.model.contract:  # the batches hold what the model reads
        raise ConfigError(
            f"training {job.model_id}: its teacher {job.teacher.checkpoint} reads other features than the model"
        )
    return Objective(Teaching(teacher.to(world.device).eval().requires_grad_(False), job.teacher.share))


def _begin(job: TrainingJob, world: World, progress: Progress) -> tuple[_Attempt, Cursor]:
    """The job at its newest checkpoint, or at its start."""
    model = build(job.model, on_wire(world, job.train.wire))
    state = start_state(model, job.train, world, _objective(job, world))
    checkpoint = resume.newest(job, world)
    if checkpoint:
        cursor, restored = resume.restore_from(state, checkpoint)
    else:
        cursor, restored = Cursor(), restore(state.model, state.optimiser, job, world)
    return _Attempt(job, state, restored, progress), cursor


def _epoch(training: _Attempt, steps: Steps, stream: Stream, cursor: Cursor) -> Cursor:
    """Trains the rest of the cursor's epoch, with checkpoints on the way. Returns the start of the next epoch."""
    every = training.job.train.checkpoint_steps
    left = stream.steps(cursor.epoch, cursor.made)
    with closing(stream.batches(cursor.epoch, cursor.made)) as batches:
        while left:
            number = min(left, every - cursor.steps % every)
            done = Made(cursor.steps, Totals(*cursor.totals))
            done = fit(training.state, islice(batches, number), training.progress, done, steps)
            made, left = stream.made(cursor.epoch, number, cursor.made), left - number
            cursor = replace(cursor, made=made, steps=done.steps, totals=tuple(done.totals))
            if cursor.steps % every == 0:
                resume.save(training.job, training.state, training.restored, cursor)
    return replace(cursor, epoch=cursor.epoch + 1, made=())


def _judged(training: _Attempt, held_out: Stream, cursor: Cursor) -> Cursor:
    """The cursor with the validation loss of the epoch that has ended. The best epoch's weights are kept."""
    state = training.state
    loss = evaluate(state.model, held_out.batches(epoch=0), state.world).mean_loss
    judged = replace(cursor, losses=(*cursor.losses, loss))
    if not judged.since_best:
        resume.save(training.job, state, training.restored, judged, resume.BEST)
    return judged
