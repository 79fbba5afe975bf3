"""Files over ranks: each file to one rank, balanced loads, the same number of steps on each, whatever the files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.streaming.shards import Unit, advanced, batch_rows, cuts, lengths, pools, shard, steps, taken


def named(rows: list[int]) -> list[Unit]:
    return [Unit(path=f"file-{number}", rows=count) for number, count in enumerate(rows)]


some_files = st.lists(st.integers(0, 50), max_size=20).map(named)


@given(some_files, st.integers(1, 5), st.integers(0, 3))
def test_each_file_with_rows_goes_to_one_rank(files: list[Unit], size: int, epoch: int) -> None:
    shards = shard(files, size, seed=1, epoch=epoch)
    assert len(shards) == size
    assert sorted(file.path for files in shards for file in files) == sorted(file.path for file in files if file.rows)


@given(some_files, st.integers(1, 5))
def test_no_rank_has_more_rows_than_another_by_more_than_the_largest_file(files: list[Unit], size: int) -> None:
    loads = [sum(file.rows for file in files) for files in shard(files, size, seed=1, epoch=0)]
    assert max(loads) - min(loads) <= max((file.rows for file in files), default=0)


@pytest.mark.parametrize("epoch", range(5))
def test_large_files_are_dealt_first(epoch: int) -> None:
    loads = [sum(file.rows for file in files) for files in shard(named([1, 1, 1, 1, 4]), 2, seed=1, epoch=epoch)]
    assert loads == [4, 4]


def test_order_follows_seed_and_epoch_and_nothing_else() -> None:
    files = named([5] * 12)
    first = shard(files, 2, seed=1, epoch=0)
    assert shard(files, 2, seed=1, epoch=0) == first
    assert shard(files, 2, seed=1, epoch=1) != first
    assert shard(files, 2, seed=2, epoch=0) != first
    assert [file.path for files in first for file in files] != [file.path for file in files]


def test_pools_are_filled_in_order() -> None:
    first, second, third = named([3, 3, 5])
    assert pools([first, second, third], shuffle_rows=4) == [[first, second], [third]]
    assert pools([first, second, third], shuffle_rows=3) == [[first], [second], [third]]
    assert pools([first, second, third], shuffle_rows=100) == [[first, second, third]]
    assert pools([], shuffle_rows=4) == []


def test_ranks_share_a_batch() -> None:
    assert batch_rows(8, 1) == [8]
    assert batch_rows(8, 3) == [3, 3, 2]


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 2, less than the 3 ranks"):
        batch_rows(2, 3)


def test_a_pool_is_cut_into_batches_of_at_most_that_many_rows() -> None:
    assert [cuts(named([rows]), 4) for rows in (1, 4, 5, 8)] == [1, 1, 2, 2]


def test_an_epoch_takes_as_many_steps_as_the_rank_with_the_most_batches() -> None:
    shards = [named([10]), named([3, 3]), []]
    assert lengths(shards, batch_size=6, shuffle_rows=100) == [5, 3, 0]
    assert lengths([[], named([3, 3])], batch_size=4, shuffle_rows=3) == [0, 4]  # two pools, each cut by itself
    assert steps([5, 3, 0], [0, 0, 0], size=3) == 5
    assert steps([5, 3, 0], [4, 3, 0], size=3) == 1
    assert steps([0, 0], [0, 0], size=2) == 0


def test_other_ranks_than_began_an_epoch_share_what_is_left_of_it() -> None:
    assert [list(taken(rank, 2, shards=3)) for rank in range(2)] == [[0, 2], [1]]
    assert list(taken(2, 3, shards=2)) == []
    assert steps([5, 3, 4], [1, 2, 0], size=2) == 8  # the first of the two takes what is left of the third
    assert advanced([5, 3, 4], [1, 2, 0], size=2, steps=5) == (5, 3, 1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 5), st.integers(0, 30))
def test_all_batches_are_made_after_all_steps(batches: list[int], size: int, steps_before: int) -> None:
    before = advanced(batches, [0] * len(batches), len(batches), steps_before)
    assert advanced(batches, before, size, steps(batches, before, size)) == tuple(batches)
