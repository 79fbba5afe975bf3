"""Models and samples on S3: any number of ranks write and read them, and a training gives what it gives locally."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.serving.export import current, export
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.streaming import Reader
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming import staging
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training.checkpoint import Checkpoint, load
from ecdctr_spark.training.job import TrainingJob
from ecdctr_spark.training.trainer import train
from ecdctr_spark.training.world import World
from tests.made_up import TRAIN, batch, built, ctr_spec, write_samples
from tests.published import ACTR, publish_model, sample_columns
from tests.thread_ranks import on_ranks

CHECKPOINT_STEPS = 5


@pytest.fixture(autouse=True)
def building_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that are threads share the random state that a model is drawn from."""
    monkeypatch.setattr("ecdctr_spark.training.trainer.build", built)


def samples(folder: Path) -> list[Unit]:
    folder.mkdir()
    return [write_samples(folder / f"part-{number}.parquet", batch(60, number)) for number in range(4)]


def uploaded(units: list[Unit], root: Root) -> list[Unit]:
    places = [root.at("tables/samples", Path(unit.path).name) for unit in units]
    for unit, place in zip(units, places, strict=True):
        place.put(Path(unit.path))
    return [Unit(path=str(place), rows=unit.rows) for unit, place in zip(units, places, strict=True)]


def job(units: list[Unit], output: Root, reader: Reader = "petastorm") -> TrainingJob:
    return TrainingJob(
        model_id="m",
        model=ctr_spec(),
        train=replace(TRAIN, epochs=2, shuffle_rows=100, checkpoint_steps=CHECKPOINT_STEPS),
        units=tuple(units),
        until=dt.date(2024, 1, 1),
        output=str(output),
        reader=reader,
    )


def trained(task: TrainingJob, ranks: int) -> dict[str, Tensor]:
    def carry_out(world: World) -> None:
        train(task, world, lambda rows, loss: None)

    on_ranks(ranks, carry_out)
    return weights(task)


def weights(task: TrainingJob) -> dict[str, Tensor]:
    _, model = load(Root(task.output), ALONE)
    return {**dense_tensors(model), **row_tensors(model)}


@pytest.mark.parametrize(("ranks", "reader"), [(1, "petastorm"), (2, "arrow")])
def test_a_training_on_s3_ends_with_the_weights_of_a_local_one_bit_for_bit(
    s3_root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, reader: Reader
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    (tmp_path / "disk").mkdir()
    units = samples(tmp_path / "samples")
    local = trained(job(units, Root.parse(tmp_path / "model")), ranks)
    remote = trained(job(uploaded(units, s3_root), s3_root.at("models/m"), reader), ranks)
    assert local.keys() == remote.keys()
    assert all(torch.equal(local[name], remote[name]) for name in local)
    assert not s3_root.at("models/m.checkpoints").exists()
    assert not list((tmp_path / "disk").glob("ecdctr-*"))


def test_no_more_than_a_pool_of_files_is_on_the_disk(
    s3_root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[int] = []

    def counting(place: Root, copy: Path) -> None:
        place.fetch(copy)
        on_disk.append(len(list(copy.parent.iterdir())))

    monkeypatch.setattr(staging, "_fetch", counting)
    trained(job(uploaded(samples(tmp_path / "samples"), s3_root), s3_root.at("models/m")), 1)
    assert len(on_disk) == 8  # four files, two epochs
    assert max(on_disk) <= 2  # a pool: two files of 60 rows are more than 100


class KilledError(BaseException):
    """Stands for SIGKILL."""


def dying(rows: int, loss: float) -> None:
    """Progress of a training that dies after its first checkpoint."""
    if rows > CHECKPOINT_STEPS * TRAIN.batch_size:
        raise KilledError


def test_a_training_that_was_killed_resumes_from_its_checkpoint(s3_root: Root, tmp_path: Path) -> None:
    units = uploaded(samples(tmp_path / "samples"), s3_root)
    task = job(units, s3_root.at("models/m"))
    with pytest.raises(KilledError):
        train(task, ALONE, dying)
    result = train(task, ALONE, lambda rows, loss: None)
    assert (result.resumed, result.rows) == (CHECKPOINT_STEPS, 2 * 240)
    whole = trained(job(units, s3_root.at("models/uninterrupted")), 1)
    resumed = weights(task)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_of_two_ranks_is_read_by_one_and_its_damage_found(s3_root: Root, tmp_path: Path) -> None:
    place = s3_root.at("models/m")
    trained(job(samples(tmp_path / "samples"), place), 2)
    rows = place.at("rows-1-of-2.safetensors")
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(bytes(content))
    opened = Checkpoint.open(place)
    with pytest.raises(ConfigError, match=r"rows-1-of-2\.safetensors: missing, truncated or changed"):
        opened.model(ALONE)
    rows.remove()
    with pytest.raises(ConfigError, match=r"rows-1-of-2\.safetensors: missing"):
        Checkpoint.open(place)


def test_a_model_on_s3_is_exported_there_and_predicts_as_a_local_one(s3_root: Root, tmp_path: Path) -> None:
    publish_model(tmp_path / "checkpoint", ACTR)
    here, there = Root.parse(tmp_path / "export"), s3_root.at("exports/actr")
    for output in (here, there):
        export(Root.parse(tmp_path / "checkpoint"), output)
        assert current(output, Root.parse(tmp_path / "checkpoint"))
    predictions = [Predictor.open(output).predict(sample_columns()) for output in (here, there)]
    assert (predictions[0] == predictions[1]).all()
