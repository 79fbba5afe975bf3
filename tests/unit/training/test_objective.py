"""What a training minimises: clicks, weighted by sampling and domain, and a teacher's probabilities beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn
from torch.testing import assert_close

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.tensors import dense_tensors
from ecdctr_spark.settings.base import ConfigError, parsed
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training.checkpoint import load
from ecdctr_spark.training.job import TaughtBy, TrainingJob
from ecdctr_spark.training.objective import CLICKS, Objective, Teaching
from ecdctr_spark.training.trainer import train
from tests.made_up import TRAIN, batch, ctr_spec, tiny_spec, write_samples

LOGITS = torch.tensor([0.5, -1.0, 2.0, 0.0])


class Constant(nn.Module):
    """A teacher that gives every sample the same logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, batch: Batch) -> Tensor:
        return torch.full((len(batch),), self.logit)


def test_clicks_count_by_their_weights() -> None:
    samples = batch(4)
    each = F.binary_cross_entropy_with_logits(LOGITS, samples.labels, reduction="none")
    assert_close(CLICKS.loss(LOGITS, samples), (each * samples.weights).sum())


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_teacher_s_probabilities_are_targets_by_its_share(share: float) -> None:
    samples = batch(4)
    taught = torch.sigmoid(torch.full((4,), 1.5))
    clicks = F.binary_cross_entropy_with_logits(LOGITS, samples.labels, samples.weights, reduction="sum")
    teacher = F.binary_cross_entropy_with_logits(LOGITS, taught, samples.weights, reduction="sum")
    found = Objective(Teaching(Constant(1.5), share)).loss(LOGITS, samples)
    assert_close(found, (1 - share) * clicks + share * teacher)


def trained(folder: Path, name: str, units: list[Unit], **changes: object) -> dict[str, Tensor]:
    job = {"model_id": name, "model": ctr_spec(), "train": TRAIN, "units": units, "until": "2024-01-01"}
    task = parsed(TrainingJob, {**job, "output": str(folder / name), **changes})
    train(task, ALONE, lambda rows, loss: None)
    return dense_tensors(load(Root.parse(str(folder / name)), ALONE)[1])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_job_s_teacher_moves_the_model_and_stays_as_it_was(tmp_path: Path) -> None:
    units = [write_samples(tmp_path / "part.parquet", batch(200, 1))]
    teacher = trained(tmp_path, "teacher", units, train=replace(TRAIN, seed=9))
    taught_by = TaughtBy(checkpoint=str(tmp_path / "teacher"), share=0.5)
    alone, taught = trained(tmp_path, "alone", units), trained(tmp_path, "taught", units, teacher=taught_by)
    assert not same(alone, taught)
    assert same(taught, trained(tmp_path, "again", units, teacher=taught_by))
    assert same(teacher, dense_tensors(load(Root.parse(str(tmp_path / "teacher")), ALONE)[1]))


def test_the_rows_of_a_file_weigh_what_their_domain_does(tmp_path: Path) -> None:
    kept = write_samples(tmp_path / "kept.parquet", batch(64, 1))
    other = write_samples(tmp_path / "other.parquet", batch(64, 2))
    even = trained(tmp_path, "even", [kept, other])
    heavy = [kept, replace(other, weight=2.0)]
    assert not same(even, trained(tmp_path, "heavy", heavy))
    trained(tmp_path, "both", [replace(unit, weight=3.0) for unit in (kept, other)])
    # By the batch's own statistics: a bias before batch norm has no gradient but rounding, and moves by chance. So do
    # the running means, by which eval() would judge.
    one, threefold = (
        load(Root.parse(str(tmp_path / name)), ALONE)[1].train()(batch(50, 3)) for name in ("even", "both")
    )
    assert_close(threefold, one, rtol=1e-3, atol=1e-3)  # the loss is a mean: only ratios matter


def test_a_teacher_that_reads_other_features_is_refused(tmp_path: Path) -> None:
    units = [write_samples(tmp_path / "part.parquet", batch(64, 1))]
    trained(tmp_path, "teacher", units, model=tiny_spec())
    taught_by = TaughtBy(checkpoint=str(tmp_path / "teacher"), share=0.5)
    with pytest.raises(ConfigError, match=r"teacher .* reads other features"):
        trained(tmp_path, "taught", units, teacher=taught_by)
