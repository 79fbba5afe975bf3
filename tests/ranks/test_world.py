"""Real ranks make the model that one rank makes of the same global batches, the same one in every world."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from torch.testing import assert_close

from ecdctr_spark.launching.local import _LAUNCHERS
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.storage import Root
from ecdctr_spark.training.checkpoint import Checkpoint, load
from ecdctr_spark.training.job import WorldKind
from tests.ranks.train_one_of_many import SPECS, train_share

pytestmark = pytest.mark.ranks


def published(folder: Path, world: WorldKind) -> Path:
    """A folder of checkpoints that two ranks of a world have published together."""
    rank = ["tests.ranks.train_one_of_many", world, str(folder)]
    command = [*_LAUNCHERS[world](2, folder), *rank]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=240)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    return folder


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("torch"), "torch")


@pytest.mark.needs("horovod")
def test_every_world_makes_the_same_model(two_ranks: Path, tmp_path: Path) -> None:
    again = published(tmp_path, "horovod")
    for name in SPECS:
        files = sorted((two_ranks / name).glob("*.safetensors"))
        assert len(files) == 4
        for file in files:
            assert file.read_bytes() == (again / name / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", SPECS)
def test_two_ranks_train_on_every_row(two_ranks: Path, tmp_path: Path, name: str) -> None:
    train_share(SPECS[name], ALONE, tmp_path / name)
    together, alone = (Checkpoint.open(Root.parse(folder / name)).manifest for folder in (two_ranks, tmp_path))
    assert together.ranks == 2
    assert (together.result.rows, together.result.steps) == (alone.result.rows, alone.result.steps) == (4 * 31, 4)
    assert together.result.loss == pytest.approx(alone.result.loss, rel=0.05)


def test_two_ranks_make_the_model_of_one(two_ranks: Path, tmp_path: Path) -> None:
    train_share(SPECS["ctr"], ALONE, tmp_path / "ctr")
    (_, together), (_, alone) = (load(Root.parse(folder / "ctr"), ALONE) for folder in (two_ranks, tmp_path))
    for name, tensor in {**dense_tensors(alone), **row_tensors(alone)}.items():
        found = {**dense_tensors(together), **row_tensors(together)}[name]
        assert_close(found, tensor, rtol=1e-4, atol=1e-6)
    assert row_tensors(alone)["fields.embedding.state"].count_nonzero() > 30  # the comparison is of trained rows
