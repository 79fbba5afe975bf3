"""A killed training resumes where it was, and ends as if nothing had happened."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec import structs
from torch import Tensor

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.settings.base import ConfigError, parsed
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training import resume
from ecdctr_spark.training.checkpoint import load
from ecdctr_spark.training.job import TaughtBy, TrainingJob, TrainingResult
from ecdctr_spark.training.trainer import train
from ecdctr_spark.training.world import World
from tests.made_up import TRAIN, batch, built, ctr_spec, write_samples
from tests.thread_ranks import on_ranks

ROWS, EPOCHS = 400, 2
STEPS = EPOCHS * -(-ROWS // TRAIN.batch_size)


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of the trainer's runs after it."""


class Mortal:
    """A rank that is killed when it is about to say something for the `breaths`-th time in its training."""

    def __init__(self, world: World, breaths: int) -> None:
        self.rank, self.size, self.device = world.rank, world.size, world.device
        self.all_to_all, self.barrier = world.all_to_all, world.barrier
        self._world, self._breaths = world, breaths

    def all_reduce(self, tensor: Tensor) -> Tensor:
        self._breaths -= 1
        if self._breaths < 0:
            raise KilledError
        return self._world.all_reduce(tensor)


@pytest.fixture(autouse=True)
def building_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that are threads share the random state that a model is drawn from."""
    monkeypatch.setattr("ecdctr_spark.training.trainer.build", built)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[Unit]:
    folder = tmp_path_factory.mktemp("samples")
    return [write_samples(folder / f"part-{number}.parquet", batch(100, number)) for number in range(ROWS // 100)]


def job(units: list[Unit], output: Path, **changes: object) -> TrainingJob:
    train = structs.replace(TRAIN, **{"epochs": EPOCHS, "shuffle_rows": 150, "checkpoint_steps": 3, **changes})
    return parsed(
        TrainingJob,
        {
            "model_id": "m",
            "model": ctr_spec(),
            "train": train,
            "units": units,
            "until": "2024-01-01",
            "output": str(output),
        },
    )


def carried_out(task: TrainingJob, world: World = ALONE) -> TrainingResult:
    return train(task, world, lambda rows, loss: None)


def killed(task: TrainingJob, breaths: int, world: World = ALONE) -> None:
    with pytest.raises(KilledError):
        carried_out(task, Mortal(world, breaths))


def weights(folder: Path) -> dict[str, Tensor]:
    _, model = load(Root.parse(folder), ALONE)
    return {**dense_tensors(model), **row_tensors(model)}


def predicted(folder: Path) -> Tensor:
    """The probabilities of some samples by the model there."""
    _, model = load(Root.parse(folder), ALONE)
    with torch.no_grad():
        return torch.sigmoid(model.eval()(batch(200, 77)))


def same(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def whole(units: list[Unit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a training that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    result = carried_out(job(units, folder))
    assert (result.rows, result.resumed) == (EPOCHS * ROWS, 0)
    return folder


@pytest.mark.parametrize("breaths", [0, 2, 5, 9, 14, 20])
def test_killed_at_any_step_and_run_again_the_weights_are_the_same_bit_for_bit(
    units: list[Unit], whole: Path, tmp_path: Path, breaths: int
) -> None:
    task = job(units, tmp_path / "model")
    killed(task, breaths)
    assert not (tmp_path / "model").exists()
    result = carried_out(task)
    assert result.rows == EPOCHS * ROWS
    assert (result.resumed > 0) == (breaths > 5)
    assert same(tmp_path / "model", whole)


def test_killed_again_and_again_it_ends_the_same(units: list[Unit], whole: Path, tmp_path: Path) -> None:
    task = job(units, tmp_path / "model")
    for _ in range(3):
        killed(task, 10)
    assert carried_out(task).resumed >= 9
    assert same(tmp_path / "model", whole)


@pytest.mark.parametrize("wire", ["float32", "float16"])
def test_two_ranks_resume_as_one_does(units: list[Unit], tmp_path: Path, wire: str) -> None:
    task, other = job(units, tmp_path / "model", wire=wire), job(units, tmp_path / "uninterrupted", wire=wire)
    on_ranks(2, lambda world: carried_out(other, world))
    on_ranks(2, lambda world: killed(task, 8, world))
    results = on_ranks(2, lambda world: carried_out(task, world))
    assert all(result.resumed == 3 and result.rows == EPOCHS * ROWS for result in results)
    assert same(tmp_path / "model", tmp_path / "uninterrupted")


def test_float16_between_ranks_makes_nearly_the_same_model_and_on_one_rank_the_same(
    units: list[Unit], whole: Path, tmp_path: Path
) -> None:
    for wire in ("float32", "float16"):
        task = job(units, tmp_path / wire, wire=wire)
        on_ranks(2, lambda world, task=task: carried_out(task, world))  # type: ignore[misc]
    assert not same(tmp_path / "float16", tmp_path / "float32")
    rows, expected = (weights(tmp_path / wire)["fields.embedding.weight"] for wire in ("float16", "float32"))
    assert (rows - expected).norm() < 0.01 * expected.norm()
    half, full = (predicted(tmp_path / wire) for wire in ("float16", "float32"))
    assert (half - full).abs().mean() < 0.01 * full.mean()
    carried_out(job(units, tmp_path / "alone", wire="float16"))
    assert same(tmp_path / "alone", whole)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])
def test_another_number_of_ranks_resumes_and_no_row_is_lost_or_trained_on_twice(
    units: list[Unit], tmp_path: Path, before: int, after: int
) -> None:
    task = job(units, tmp_path / "model")
    on_ranks(before, lambda world: killed(task, 8, world))
    for result in on_ranks(after, lambda world: carried_out(task, world)):
        assert result.resumed == 3 and result.rows == EPOCHS * ROWS


def test_a_training_under_way_says_how_many_ranks_have_begun_its_newest_checkpoint(
    units: list[Unit], tmp_path: Path
) -> None:
    task = job(units, tmp_path / "model")
    assert resume.begun_by(task) is None
    on_ranks(2, lambda world: killed(task, 8, world))
    assert resume.begun_by(task) == 2
    assert resume.begun_by(job(units, tmp_path / "model", epochs=3)) is None
    killed(task, 8)
    held = sorted(path.name for path in (tmp_path / "model.checkpoints").iterdir())
    assert held == ["000000003", "000000006"]
    assert resume.begun_by(task) == 1  # the newest checkpoint's
    on_ranks(2, lambda world: carried_out(task, world))
    assert resume.begun_by(task) is None


def test_only_the_newest_checkpoints_are_kept_and_none_beside_the_model(units: list[Unit], tmp_path: Path) -> None:
    task = job(units, tmp_path / "model")
    killed(task, 28)
    assert [path.name for path in sorted((tmp_path / "model.checkpoints").iterdir())] == ["000000009", "000000012"]
    carried_out(task)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_killed_while_its_checkpoints_are_removed_it_ends_the_same(
    units: list[Unit], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's files go in any order."""
    task, remove = job(units, tmp_path / "model"), Root.remove

    def half_removed(place: Root) -> None:
        if not (tmp_path / "model").exists() or place.size() is not None or ".checkpoints" not in str(place):
            remove(place)
            return
        for name in place.files():
            if name.endswith(".safetensors"):
                remove(place.at(name))
        raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr(Root, "remove", half_removed)
        with pytest.raises(KilledError):
            carried_out(task)
    assert list((tmp_path / "model.checkpoints").iterdir())
    carried_out(task)
    assert same(tmp_path / "model", whole)


def test_another_job_of_the_same_name_begins_afresh(units: list[Unit], tmp_path: Path) -> None:
    killed(job(units, tmp_path / "model"), 8)
    assert carried_out(job(units, tmp_path / "model", seed=9)).resumed == 0


def test_a_training_from_a_parent_that_was_trained_again_begins_afresh(units: list[Unit], tmp_path: Path) -> None:
    task = job(units, tmp_path / "model")
    killed(structs.replace(task, inputs="of a parent"), 8)
    assert carried_out(structs.replace(task, inputs="of the parent, trained again")).resumed == 0


def test_a_training_in_a_moved_root_resumes_where_it_was(units: list[Unit], whole: Path, tmp_path: Path) -> None:
    killed(job(units, tmp_path / "here" / "model"), 8)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = [structs.replace(unit, path=str(tmp_path / Path(unit.path).name)) for unit in units]
    for old, new in zip(units, moved, strict=True):
        shutil.copy(old.path, new.path)
    assert carried_out(job(moved, tmp_path / "there" / "model")).resumed == 3
    assert same(tmp_path / "there" / "model", whole)


def test_a_training_is_the_same_wherever_what_it_starts_from_is(units: list[Unit], tmp_path: Path) -> None:
    def started(root: str, parent: str = "parent") -> str:
        places = {"parent": f"{root}/{parent}", "snapshots": (f"{root}/snapshot",)}
        teacher = TaughtBy(checkpoint=f"{root}/teacher", share=0.5)
        return resume.digest(structs.replace(job(units, tmp_path / "model"), teacher=teacher, **places))

    assert started("/here") == started("/there") != started("/here", "another parent")


def test_a_damaged_checkpoint_is_refused_by_name(units: list[Unit], tmp_path: Path) -> None:
    task = job(units, tmp_path / "model")
    killed(task, 8)
    path = tmp_path / "model.checkpoints" / "000000003" / "dense.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    said = (
        rf"000000003/dense\.safetensors: missing, truncated or changed; .*, or remove {tmp_path}/model\.checkpoints: "
    )
    with pytest.raises(ConfigError, match=said):
        carried_out(task)
    shutil.rmtree(tmp_path / "model.checkpoints")
    assert carried_out(task).resumed == 0


def test_a_training_ends_when_the_loss_on_what_is_held_out_rises_and_its_best_epoch_stays(tmp_path: Path) -> None:
    chance = [replace(batch(100, n), labels=torch.bernoulli(torch.full((100,), 0.5))) for n in range(4)]
    units = [write_samples(tmp_path / f"part-{n}.parquet", samples) for n, samples in enumerate(chance)]
    greedy = {"epochs": 40, "validation_share": 0.25, "embedding_learning_rate": 0.5, "dense_learning_rate": 0.05}
    result = carried_out(job(units, tmp_path / "model", **greedy))
    best = result.held_out.index(min(result.held_out))
    assert len(result.held_out) == best + 2 < 40
    assert result.rows == len(result.held_out) * 300
    until_then = job(units, tmp_path / "best", **{**greedy, "epochs": best + 1})
    carried_out(until_then)
    assert same(tmp_path / "model", tmp_path / "best")
