"""Checkpoints of a training under way, beside the place of its model, and how it resumes from them.

A training that was killed at any step resumes from its newest checkpoint. On the same number of ranks it ends with the
same weights bit for bit. On another number, each row of the epoch is still read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import json
from msgspec.structs import replace

from ecdctr_spark.settings.base import ConfigError, plain
from ecdctr_spark.storage import Root, sha256
from ecdctr_spark.training.checkpoint import Checkpoint, Manifest, RestoreReport, manifest_of, publish
from ecdctr_spark.training.job import Cursor, TrainingJob, TrainingResult
from ecdctr_spark.training.manifests import MANIFEST
from ecdctr_spark.training.step import TrainState
from ecdctr_spark.training.transfer import take_all
from ecdctr_spark.training.world import World

BEST = "best"


def save(job: TrainingJob, state: TrainState, restored: RestoreReport, cursor: Cursor, name: str | None = None) -> None:
    """Writes a checkpoint called `name`, by default its number of steps, and then removes all but the newest
    job.keep_checkpoints of the numbered ones. All ranks call it together."""
    world = state.world
    manifest = replace(_manifest(job, restored, world), job=digest(job), cursor=cursor)
    publish(_folder(job).at(name or f"{cursor.steps:09d}"), state.model, state.optimiser, manifest, world)
    if world.rank == 0:
        for old in _checkpoints(job)[: -job.keep_checkpoints]:
            old.withdraw(MANIFEST)
    world.barrier()


def finish(job: TrainingJob, state: TrainState, restored: RestoreReport, result: TrainingResult) -> None:
    """Publishes the model at job.output and removes its checkpoints. All ranks call it together."""
    manifest = replace(_manifest(job, restored, state.world), result=result)
    publish(Root.parse(job.output), state.model, state.optimiser, manifest, state.world)
    _discard(job, state.world)


def newest(job: TrainingJob, world: World) -> Checkpoint | None:
    """The newest checkpoint of this job, None where there is none. Those of a different job for the same model are
    removed. All ranks call it together.

    Raises ConfigError where the checkpoint is damaged.
    """
    with _advised(job):
        found = [Checkpoint.open(place) for place in _checkpoints(job)[-1:]]
    world.barrier()  # all ranks have looked before any checkpoint is removed
    if found and found[0].manifest.job == digest(job):
        return found[0]
    _discard(job, world)
    return None


def begun_by(job: TrainingJob) -> int | None:
    """The number of ranks that made the newest checkpoint of this job, None where there is none. Raises ConfigError
    where its manifest is damaged."""
    with _advised(job):
        manifests = [manifest_of(place) for place in _checkpoints(job)[-1:]]
    return next((manifest.ranks for manifest in manifests if manifest.job == digest(job)), None)


def restore_from(state: TrainState, checkpoint: Checkpoint) -> tuple[Cursor, RestoreReport]:
    """Restores a freshly built model and its optimiser from the checkpoint; its cursor and the report of the start.
    Raises ConfigError where the checkpoint is that of a finished model or does not fit."""
    take_all(state.model, state.optimiser, checkpoint, state.world)
    manifest = checkpoint.manifest
    if manifest.cursor is None:
        raise ConfigError(f"checkpoint {checkpoint.root}: no cursor: it is a finished model, not a training under way")
    return manifest.cursor, manifest.restored


def best(job: TrainingJob) -> Checkpoint:
    """The checkpoint of the epoch with the lowest validation loss. Raises ConfigError where there is none."""
    with _advised(job):
        return Checkpoint.open(_folder(job).at(BEST))


def digest(job: TrainingJob) -> str:
    """A hash of everything that the result of a job depends on. Folders are left out, names are not: Delta gives each
    file a unique name, and a parent's folder is named after its model_id."""
    named = replace(
        job,
        units=tuple(replace(unit, path=_name(unit.path)) for unit in job.units),
        snapshots=tuple(_name(path) for path in job.snapshots),
        parent=job.parent and _name(job.parent),
        teacher=job.teacher and replace(job.teacher, checkpoint=_name(job.teacher.checkpoint)),
    )
    return sha256(json.encode(plain(named, "output", "keep_checkpoints", "reader")))


@contextmanager
def _advised(job: TrainingJob) -> Iterator[None]:
    """Adds to the error of the block how to do without what is damaged."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{error}, or remove {_folder(job)}: the training then begins from its start") from error


def _name(place: str) -> str:
    return Root.parse(place).name


def _manifest(job: TrainingJob, restored: RestoreReport, world: World) -> Manifest:
    return Manifest(
        model_id=job.model_id,
        spec=job.model,
        train=job.train,
        how=job.how,
        keeps=job.keeps,
        ranks=world.size,
        restored=restored,
    )


def _discard(job: TrainingJob, world: World) -> None:
    if world.rank == 0:
        for place in _checkpoints(job):
            place.withdraw(MANIFEST)
        _folder(job).remove()
    world.barrier()


def _folder(job: TrainingJob) -> Root:
    return Root.parse(job.output).beside(".checkpoints")


def _checkpoints(job: TrainingJob) -> list[Root]:
    """The complete numbered checkpoints, the oldest first."""
    return [place for place in _folder(job).list() if place.name.isdigit() and place.at(MANIFEST).exists()]
