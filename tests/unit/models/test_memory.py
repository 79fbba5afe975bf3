"""CPM's memory of the monthly snapshots, and the merged one of A-CTR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.testing import assert_close

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.memory import (
    MergedMemory,
    MonthAttention,
    MonthLast,
    MonthMean,
    SnapshotMemory,
    merge_memory,
)
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import MemorySpec
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.world import World
from tests.made_up import ITEMS, USERS, ctr_spec
from tests.thread_ranks import on_ranks, whole

MONTHS = ("2000-04", "2000-05", "2000-06")
SPEC = ctr_spec()
MEMORY = MemorySpec(pooling="attention", dimension=4, snapshots=MONTHS)


def write(folder: Path, month: str, entity: str, rows: list[int], dimension: int = 4) -> str:
    """A file of the snapshots table, as Spark lays it out."""
    path = folder / f"model_id={month}" / f"entity={entity}" / "part-00000.snappy.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors = [[float(row * 10 + int(month[-2:]) + column) for column in range(dimension)] for row in rows]
    vector = pa.array(vectors, pa.list_(pa.float32()))
    pq.write_table(
        pa.table({"index": pa.array(rows, pa.int32()), "vector": vector, "model_id": ["tpm"] * len(rows)}), path
    )
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three months; user 5 is in all, user 6 in one, item 24 in two."""
    return [
        write(tmp_path, "2000-04", "user_id", [5]),
        write(tmp_path, "2000-05", "user_id", [5, 6]),
        write(tmp_path, "2000-06", "user_id", [5]),
        write(tmp_path, "2000-05", "item_id", [24]),
        write(tmp_path, "2000-06", "item_id", [24, 25]),
    ]


def filled(files: list[str], world: World = ALONE) -> SnapshotMemory:
    memory = SnapshotMemory(SPEC.rows, MEMORY, world)
    for seed, parameter in enumerate(memory.parameters()):
        parameter.data.normal_(generator=torch.Generator().manual_seed(seed))
    memory.fill(files)
    return memory


def known(memory: nn.Module, users: Tensor, items: Tensor) -> Tensor:
    """What a memory gives of users and items, by their rows."""
    found: Tensor = memory(memory.table(torch.stack([users, items], 1)))  # type: ignore[operator]
    return found


def test_snapshots_are_placed_by_month_and_absent_ones_stay_zero(files: list[str]) -> None:
    months = filled(files).table.weight[:, :-1].view(-1, len(MONTHS), 4)
    assert months[5].tolist() == [[54, 55, 56, 57], [55, 56, 57, 58], [56, 57, 58, 59]]
    assert (months[6] != 0).any(-1).tolist() == [False, True, False]
    assert (months[24] != 0).any(-1).tolist() == [False, True, True]
    assert months.any(-1).any(-1).nonzero().squeeze(1).tolist() == [5, 6, 24, 25]


def test_each_rank_keeps_the_rows_that_it_owns(files: list[str]) -> None:
    shares = on_ranks(3, lambda world: filled(files, world).table.weight)
    assert torch.equal(whole(shares), filled(files).table.weight)


def test_vectors_of_later_tokens_are_left_out(tmp_path: Path) -> None:
    memory = filled([write(tmp_path, "2000-06", "item_id", [24, SPEC.rows, SPEC.rows + 1])])
    assert memory.table.weight[:, :-1].any(1).nonzero().squeeze(1).tolist() == [24]


def test_attention_is_over_the_months_that_are_present() -> None:
    torch.manual_seed(0)
    attention = MonthAttention(4)
    months = torch.randn(1, 3, 4)
    months[:, 1] = 0
    assert_close(attention(months), attention(months[:, [0, 2]]))
    one = torch.randn(1, 1, 4)
    assert_close(attention(one), attention.value(one).squeeze(1))
    assert torch.equal(attention(torch.zeros(2, 3, 4)), torch.zeros(2, 4))


def by_the_book(attention: MonthAttention, months: Tensor) -> Tensor:
    """Scaled dot-product attention of each month to those that are present, and the mean of these."""
    here = (months != 0).any(-1)
    scores = attention.query(months) @ attention.key(months).transpose(1, 2) / months.shape[-1] ** 0.5
    shares = scores.masked_fill(~here.unsqueeze(1), torch.finfo(scores.dtype).min).softmax(-1)
    attended = (shares @ attention.value(months)) * here.unsqueeze(-1)
    total: Tensor = attended.sum(1) / here.sum(1, keepdim=True).clamp(min=1)
    return total


def test_attention_and_its_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    attention, months = MonthAttention(4), torch.randn(50, 3, 4)
    months *= torch.rand(50, 3, 1) < 0.5
    assert not (months != 0).any(-1).any(-1).all()  # one entity has none
    found, expected = attention(months), by_the_book(attention, months)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(found)
    pairs = (torch.autograd.grad(each, list(attention.parameters()), direction) for each in (found, expected))
    for ours, theirs in zip(*pairs, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_merged_table_gives_what_the_attention_gives(files: list[str]) -> None:
    memory = filled(files)
    users, items = torch.tensor([5, 6, 7, 5]), torch.tensor([24, 25, 24, 30])
    alive = known(memory, users, items)
    assert alive[:2].abs().min() > 0
    assert_close(known(memory.merged(), users, items), alive, rtol=1e-5, atol=1e-5)
    shares = on_ranks(2, lambda world: filled(files, world).merged().table.weight)
    assert_close(whole(shares), memory.merged().table.weight, rtol=1e-5, atol=1e-5)


def test_a_model_s_memory_is_merged_in_place_once() -> None:
    spec = ctr_spec(memory="attention", months=MONTHS)
    model = build(spec, ALONE)
    merged = merge_memory(spec, model)
    assert merged.memory == MemorySpec(pooling="merged", dimension=4)
    assert isinstance(model.memory, MergedMemory)
    assert merge_memory(merged, model) == merged


def test_user_and_item_have_an_attention_of_their_own(files: list[str]) -> None:
    memory = filled(files)
    before = known(memory, torch.tensor([5]), torch.tensor([24]))
    with torch.no_grad():
        memory.user.value.weight.zero_()
    after = known(memory, torch.tensor([5]), torch.tensor([24]))
    assert (after[:, :4] == 0).all() and torch.equal(after[:, 4:], before[:, 4:])


def test_without_months_nothing_is_known() -> None:
    memory = SnapshotMemory(SPEC.rows, MemorySpec(pooling="attention", dimension=4), ALONE)
    found = known(memory, torch.tensor([USERS[0]]), torch.tensor([ITEMS[0]]))
    assert torch.equal(found, torch.zeros(1, 8))
    assert torch.equal(memory.merged().table.weight, torch.zeros(SPEC.rows, 4))


@pytest.mark.parametrize(
    ("month", "entity", "dimension", "reported"),
    [
        ("1999-12", "user_id", 4, "model 1999-12"),
        ("2000-06", "item_category", 4, "entity item_category"),
        ("2000-06", "user_id", 3, "no vectors of 4"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, month: str, entity: str, dimension: int, reported: str
) -> None:
    file = write(tmp_path, month, entity, [5], dimension)
    with pytest.raises(ConfigError, match=reported) as error:
        filled([file])
    assert file in str(error.value)


def test_the_mean_and_the_last_are_of_the_months_that_are_present() -> None:
    months = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert MonthMean()(months).tolist() == [[2.0, 3.0], [5.0, 6.0], [0.0, 0.0]]
    assert MonthLast()(months).tolist() == [[3.0, 4.0], [5.0, 6.0], [0.0, 0.0]]


@pytest.mark.parametrize(("pooling", "kind"), [("attention", MonthAttention), ("mean", MonthMean), ("last", MonthLast)])
def test_months_are_pooled_as_the_spec_says(pooling: Any, kind: type[nn.Module]) -> None:
    memory = SnapshotMemory(SPEC.rows, replace(MEMORY, pooling=pooling), ALONE)
    assert {MonthAttention, MonthMean, MonthLast}.intersection(map(type, memory.modules())) == {kind}


@pytest.mark.parametrize("pooling", ["attention", "mean", "last"])
def test_merging_a_memory_changes_no_answer(files: list[str], pooling: Any) -> None:
    memory = SnapshotMemory(SPEC.rows, replace(MEMORY, pooling=pooling), ALONE)
    memory.fill(files)
    users, items = torch.tensor([5, 6, 7]), torch.tensor([24, 25, 26])
    assert_close(known(memory.merged(), users, items), known(memory, users, items))
