"""The training of any of the models on one of several ranks: one flat loop, and what stands around it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from ecdctr_spark.models import build
from ecdctr_spark.streaming.batch import Batch
from ecdctr_spark.streaming.batches import Stream
from ecdctr_spark.streaming.shards import split
from ecdctr_spark.training import resume
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.checkpoint import RestoreReport
from ecdctr_spark.training.job import Cursor, TrainingJob, TrainingResult, Unit
from ecdctr_spark.training.step import Learner, Totals, average_batch_norm, evaluate, learner, rows_of, step
from ecdctr_spark.training.transfer import restore
from ecdctr_spark.training.world import World

Progress = Callable[[int, float], None]  # rows trained on so far by all ranks, their mean loss

_REPORT_SECONDS = 0.25


class Done(NamedTuple):
    """Steps made, and what they came to."""

    steps: int = 0
    totals: Totals = Totals()


NOTHING = Done()


class _Training(NamedTuple):
    """A job under way, and what became of its model's tensors at the start."""

    job: TrainingJob
    learner: Learner
    restored: RestoreReport
    progress: Progress


def train(job: TrainingJob, world: World, progress: Progress) -> TrainingResult:
    """Carries a job out and publishes the model at job.output. All ranks call it together with the same job.

    The same job on as many ranks and threads gives the same weights bit for bit, killed and run again or not.
    `progress` is called on rank 0.
    """
    keep_freed_memory()
    started = time.perf_counter()
    training, cursor = _begin(job, world, progress)
    resumed = cursor.steps
    trained_on, held_out = (
        _stream(job, files, world) for files in split(job.units, job.train.held_out, job.train.seed)
    )
    while cursor.epoch < job.train.epochs and cursor.since_best < job.train.patience:
        cursor = _epoch(training, trained_on, cursor)
        if held_out.files:
            cursor = _judged(training, held_out, cursor)
    if cursor.since_best:
        resume.go_on(training.learner, resume.best(job))
    totals, seconds = Totals(*cursor.totals), time.perf_counter() - started
    result = TrainingResult(
        rows=int(totals.rows),
        steps=cursor.steps,
        seconds=seconds,
        loss=totals.mean_loss,
        waiting=trained_on.waited / seconds,
        resumed=resumed,
        held_out=cursor.losses,
    )
    resume.finish(job, training.learner, training.restored, result)
    return result


def fit(learner: Learner, batches: Iterable[Batch], progress: Progress, done: Done = NOTHING) -> Done:
    """Trains on this rank's batches, of which every rank must bring as many, after what is done already.

    A filler batch weighs nothing and counts no row. Raises RuntimeError where the loss is no longer finite.
    """
    learner.model.train()
    own_rows, reported, rank = 0, time.perf_counter(), learner.world.rank
    for batch in batches:
        done = Done(done.steps + 1, done.totals.plus(step(learner, batch, done.steps)))
        own_rows += rows_of(batch)
        if not math.isfinite(done.totals.loss):
            raise RuntimeError(f"the loss is not finite at step {done.steps}: lower the learning rates")
        if rank == 0 and time.perf_counter() - reported >= _REPORT_SECONDS:
            progress(int(done.totals.rows), done.totals.mean_loss)
            reported = time.perf_counter()
    average_batch_norm(learner.model, own_rows, learner.world)
    if rank == 0:
        progress(int(done.totals.rows), done.totals.mean_loss)
    return done


def _stream(job: TrainingJob, files: Sequence[Unit], world: World) -> Stream:
    return Stream(files, job.model.contract, job.train, job.shuffle_rows, job.until, world.rank, world.size)


def _begin(job: TrainingJob, world: World, progress: Progress) -> tuple[_Training, Cursor]:
    """Where the job was left, or its start."""
    pupil = learner(build(job.model, world), job.train, world)
    checkpoint = resume.newest(job, world)
    if checkpoint:
        cursor, restored = resume.go_on(pupil, checkpoint)
    else:
        cursor, restored = Cursor(), restore(pupil.model, pupil.optimiser, job, world)
    return _Training(job, pupil, restored, progress), cursor


def _epoch(training: _Training, stream: Stream, cursor: Cursor) -> Cursor:
    """What is left of the cursor's epoch, with a checkpoint every job.checkpoint_steps steps; the start of the next."""
    every = training.job.checkpoint_steps
    left = stream.steps(cursor.epoch, cursor.made)
    with closing(stream.batches(cursor.epoch, cursor.made)) as batches:
        while left:
            steps = min(left, every - cursor.steps % every)
            done = Done(cursor.steps, Totals(*cursor.totals))
            done = fit(training.learner, islice(batches, steps), training.progress, done)
            made, left = stream.made(cursor.epoch, steps, cursor.made), left - steps
            cursor = cursor.model_copy(update={"made": made, "steps": done.steps, "totals": tuple(done.totals)})
            if cursor.steps % every == 0:
                resume.save(training.job, training.learner, training.restored, cursor)
    return cursor.model_copy(update={"epoch": cursor.epoch + 1, "made": ()})


def _judged(training: _Training, held_out: Stream, cursor: Cursor) -> Cursor:
    """The cursor with the loss on what is held out; the best epoch's weights are kept."""
    learner = training.learner
    loss = evaluate(learner.model, held_out.batches(epoch=0), learner.world).mean_loss
    judged = cursor.model_copy(update={"losses": (*cursor.losses, loss)})
    if not judged.since_best:
        resume.save(training.job, learner, training.restored, judged, resume.BEST)
    return judged
