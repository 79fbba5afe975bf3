"""The sharded embedding: the same table on any number of ranks, exact row-wise Adagrad on the rows touched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ecdctr_spark.models.embedding import SCALE, ShardedEmbedding, ShardedTable, initial_vectors
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.groups import group, group_in_room, sum_groups
from ecdctr_spark.training.world import World
from tests.thread_ranks import on_ranks, whole

ROWS, DIMENSION, SEED = 23, 4, 5


def adagrad(table: Tensor, state: Tensor, rows: Tensor, factors: Tensor, rate: float) -> None:
    """The reference step, with a dense gradient: loss = sum(factors * table[rows])."""
    vectors = table.clone().requires_grad_()
    (vectors[rows] * factors).sum().backward()
    assert vectors.grad is not None
    gradient = vectors.grad.index_fill(0, torch.tensor([0]), 0.0)
    state += gradient.square().mean(1)
    table -= rate * gradient / (state.sqrt() + 1e-10).unsqueeze(1)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_any_number_of_ranks_starts_with_the_same_table(size: int) -> None:
    shares = on_ranks(size, lambda world: ShardedEmbedding(ROWS, DIMENSION, world, SEED).weight)
    assert torch.equal(whole(shares), ShardedEmbedding(ROWS, DIMENSION, ALONE, SEED).weight)


def test_a_larger_table_starts_with_the_same_old_rows() -> None:
    small, large = (ShardedEmbedding(rows, DIMENSION, ALONE, SEED).weight for rows in (ROWS, 10 * ROWS))
    assert torch.equal(large[:ROWS], small)


def split_mix(number: int) -> int:
    """The output number `number` of SplitMix64 from the state 0 (Steele et al. 2014), counted from 1."""
    mask = (1 << 64) - 1
    bits = number * 0x9E3779B97F4A7C15 & mask
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & mask
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & mask
    return bits ^ bits >> 31


def test_initial_vectors_are_those_of_split_mix() -> None:
    assert split_mix(1) == 0xE220A8397B1DCDAF  # as published
    rows = [1, 7, 12_345_678_901]
    expected = [
        [SCALE * ((split_mix(row * DIMENSION + column + 1 + split_mix(SEED)) >> 40) / 2**23 - 1)
         for column in range(DIMENSION)]
        for row in rows
    ]  # fmt: skip
    assert_close(initial_vectors(torch.tensor(rows), DIMENSION, SEED), torch.tensor(expected))


def test_initial_vectors_are_small_differ_and_leave_padding_zero() -> None:
    vectors = initial_vectors(torch.arange(20_000), DIMENSION, SEED)
    assert (vectors[0] == 0).all()
    assert vectors.abs().max() <= SCALE
    assert abs(vectors.mean().item()) < SCALE / 100
    assert vectors.std().item() == pytest.approx(SCALE / 3**0.5, rel=0.02)
    # 24 bits per number: a few of 80,000 agree by chance.
    assert len(vectors[1:].unique()) > 0.99 * vectors[1:].numel()
    assert not torch.equal(vectors, initial_vectors(torch.arange(20_000), DIMENSION, SEED + 1))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_look_up_is_indexing_whatever_the_shape(size: int) -> None:
    table = initial_vectors(torch.arange(ROWS), DIMENSION, SEED)

    def look_up(world: World) -> bool:
        rows = torch.randint(ROWS, (3, 2, 4), generator=torch.Generator().manual_seed(world.rank))
        return torch.equal(ShardedEmbedding(ROWS, DIMENSION, world, SEED)(rows), table[rows])

    assert all(on_ranks(size, look_up))


# Duplicates within a rank and over ranks, padding, and a batch that leaves a rank without any row.
BATCHES = [[7, 7, 3, 0, 22, 7, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0], [22, 7]]


def factors(number: int, rows: list[int]) -> Tensor:
    """Some gradient for each row, another for each batch."""
    return (torch.tensor(rows).unsqueeze(1) - 5.0) * torch.arange(1, DIMENSION + 1) + number


@pytest.mark.parametrize("size", [1, 2, 3])
def test_steps_are_those_of_a_dense_table_under_adagrad(size: int) -> None:
    def train(world: World) -> ShardedEmbedding:
        embedding = ShardedEmbedding(ROWS, DIMENSION, world, SEED)
        for number, batch in enumerate(BATCHES):
            rows = batch[world.rank :: size]
            (embedding(torch.tensor(rows, dtype=torch.int64)) * factors(number, rows)).sum().backward()
            embedding.step(learning_rate=0.1, scale=0.5)
        return embedding

    trained = on_ranks(size, train)
    table, state = initial_vectors(torch.arange(ROWS), DIMENSION, SEED), torch.zeros(ROWS)
    for number, batch in enumerate(BATCHES):
        adagrad(table, state, torch.tensor(batch), 0.5 * factors(number, batch), rate=0.1)
    assert_close(whole([embedding.weight for embedding in trained]), table, rtol=1e-5, atol=1e-7)
    assert_close(whole([embedding.state for embedding in trained]), state, rtol=1e-5, atol=1e-7)


def test_only_rows_of_the_batch_change_and_padding_stays_zero() -> None:
    embedding = ShardedEmbedding(ROWS, DIMENSION, ALONE, SEED)
    before = embedding.weight.clone()
    embedding(torch.tensor([0, 4, 9])).sum().backward()
    embedding.step(0.1, 1.0)
    changed = (embedding.weight != before).any(1).nonzero().squeeze(1)
    assert changed.tolist() == [4, 9]
    assert embedding.state.nonzero().squeeze(1).tolist() == [4, 9]
    assert (embedding.weight[0] == 0).all()


def test_a_pass_without_backward_leaves_nothing_behind() -> None:
    embedding = ShardedEmbedding(ROWS, DIMENSION, ALONE, SEED)
    before = embedding.weight.clone()
    embedding(torch.tensor([1, 2]))
    with torch.no_grad():
        embedding(torch.tensor([3]))
    embedding.step(0.1, 1.0)
    assert torch.equal(embedding.weight, before)


def test_two_passes_before_a_step_are_one_batch() -> None:
    apart, together = (ShardedEmbedding(ROWS, DIMENSION, ALONE, SEED) for _ in range(2))
    apart(torch.tensor([3, 4])).sum().backward()
    apart(torch.tensor([4, 5])).sum().backward()
    together(torch.tensor([3, 4, 4, 5])).sum().backward()
    for embedding in (apart, together):
        embedding.step(0.1, 1.0)
    assert torch.equal(apart.weight, together.weight)


def test_a_frozen_table_starts_at_zero_and_takes_no_gradient() -> None:
    table = ShardedTable(ROWS, DIMENSION, ALONE)
    vectors = table(torch.tensor([1, 2]))
    assert not vectors.requires_grad and (vectors == 0).all()
    assert not list(table.parameters())


def test_the_optimiser_state_is_no_part_of_the_model() -> None:
    assert list(ShardedEmbedding(ROWS, DIMENSION, ALONE, SEED).state_dict()) == ["weight"]


@pytest.mark.parametrize("number", [0, 1, 5, 1000, (1 << 15) - 1, 1 << 15, 50_000])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_equal_rows_are_grouped_in_the_order_of_their_positions(number: int, dtype: torch.dtype) -> None:
    values = torch.randint(max(1, number // 3), (number,), generator=torch.Generator().manual_seed(number), dtype=dtype)
    groups = group(values)
    distinct, counts = torch.unique(values, return_counts=True)
    assert groups.distinct.dtype == dtype and torch.equal(groups.distinct, distinct)
    assert torch.equal(groups.order, values.argsort(stable=True))
    assert torch.equal(groups.starts, counts.cumsum(0) - counts)


@pytest.mark.parametrize("number", [0, 1, 5, 1000, 1 << 15])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_in_room_groups_without_positions_follow_those_that_have_some(number: int, dtype: torch.dtype) -> None:
    values = torch.randint(max(1, number // 3), (number,), generator=torch.Generator().manual_seed(number), dtype=dtype)
    expected = group(values)
    groups, rest = len(expected.distinct), min(3, number)
    found = group_in_room(values, groups + rest)
    assert torch.equal(found.order, expected.order)
    assert found.distinct.tolist() == expected.distinct.tolist() + [0] * rest
    assert found.starts.tolist() == expected.starts.tolist() + [number] * rest
    vectors = torch.randn(number, DIMENSION)
    assert torch.equal(sum_groups(vectors, found)[:groups], sum_groups(vectors, expected))
    assert not sum_groups(vectors, found)[groups:].any()
