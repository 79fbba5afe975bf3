"""Checkpoints of a training that has not ended, beside the model that it is to become, and the way back from them.

A training that was killed, at whatever step, goes on from its newest checkpoint and ends with the same weights bit for
bit, on as many ranks. On another number of ranks each row of the epoch still comes once.
"""

from __future__ import annotations

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sha256
from ecdctr_spark.training.checkpoint import MANIFEST, Checkpoint, Manifest, RestoreReport, publish
from ecdctr_spark.training.job import Cursor, TrainingJob, TrainingResult
from ecdctr_spark.training.step import TrainState
from ecdctr_spark.training.transfer import take_all
from ecdctr_spark.training.world import World

BEST = "best"


def save(job: TrainingJob, state: TrainState, restored: RestoreReport, cursor: Cursor, name: str | None = None) -> None:
    """Writes a checkpoint, named by its steps unless told otherwise, and then removes all but the newest
    job.keep_checkpoints of those. All ranks call it together."""
    world = state.world
    manifest = _manifest(job, restored, world).model_copy(update={"job": digest(job), "cursor": cursor})
    publish(_folder(job).at(name or f"{cursor.steps:09d}"), state.model, state.optimiser, manifest, world)
    if world.rank == 0:
        for old in _checkpoints(job)[: -job.keep_checkpoints]:
            old.at(MANIFEST).remove()  # first: without it the rest does not exist
            old.remove()
    world.barrier()


def finish(job: TrainingJob, state: TrainState, restored: RestoreReport, result: TrainingResult) -> None:
    """Publishes the model at job.output and removes its checkpoints. All ranks call it together."""
    manifest = _manifest(job, restored, state.world).model_copy(update={"result": result})
    publish(Root.parse(job.output), state.model, state.optimiser, manifest, state.world)
    _discard(job, state.world)


def newest(job: TrainingJob, world: World) -> Checkpoint | None:
    """The newest checkpoint of this very job; those of another that was to become the same model are removed.

    Raises ConfigError where it is damaged.
    """
    found = [Checkpoint.open(place) for place in _checkpoints(job)[-1:]]
    world.barrier()  # before any is removed, all have looked
    if found and found[0].manifest.job == digest(job):
        return found[0]
    _discard(job, world)
    return None


def restore_from(state: TrainState, checkpoint: Checkpoint) -> tuple[Cursor, RestoreReport]:
    """Brings a freshly built model and its optimiser to where the checkpoint was written."""
    take_all(state.model, state.optimiser, checkpoint, state.world)
    manifest = checkpoint.manifest
    if manifest.cursor is None:
        raise ConfigError(f"checkpoint {checkpoint.root}: has no cursor: it is a model, not a training under way")
    return manifest.cursor, manifest.restored


def best(job: TrainingJob) -> Checkpoint:
    """The checkpoint of the epoch with the least loss on what is held out."""
    return Checkpoint.open(_folder(job).at(BEST))


def digest(job: TrainingJob) -> str:
    """Tells jobs apart by all that their result depends on, and nothing else: not where their files lie. Delta gives
    each file a name of its own, and a parent's folder is its model_id."""
    named = {
        "units": tuple(unit.model_copy(update={"path": _name(unit.path)}) for unit in job.units),
        "snapshots": tuple(_name(path) for path in job.snapshots),
        "parent": job.parent and _name(job.parent),
        "teacher": job.teacher and job.teacher.model_copy(update={"checkpoint": _name(job.teacher.checkpoint)}),
    }
    meaning = job.model_copy(update=named).model_dump_json(exclude={"output", "keep_checkpoints"})
    return sha256(meaning.encode())


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
        _folder(job).remove()
    world.barrier()


def _folder(job: TrainingJob) -> Root:
    return Root.parse(job.output).beside(".checkpoints")


def _checkpoints(job: TrainingJob) -> list[Root]:
    """The complete ones, oldest first."""
    return [place for place in _folder(job).list() if place.name.isdigit() and place.at(MANIFEST).exists()]
