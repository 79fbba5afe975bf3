"""Samples in a rank: every row once per epoch over all ranks, as many batches on each, always the same order; the same
batches by every reader."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from msgspec import structs

from ecdctr_spark.contract import Contract, Sequence
from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.streaming import Reader
from ecdctr_spark.streaming.batches import Stream, _ahead, reading
from ecdctr_spark.streaming.shards import Unit

CONTRACT = Contract(
    ids=("user_id", "item_id"),
    unknown=(1, 2),
    unknown_rows=1,
    numbers=("rate",),
    sequences=(Sequence(name="clicks", length=3, of="item_id"),),
)
DAY = dt.date(2024, 1, 1)
CLICKED = (DAY - dt.date(1970, 1, 1)).days
READERS = ("petastorm", "arrow")
FIRST_ID = 2**24  # from here on a float32 no longer distinguishes one integer from the next


def write(path: Path, ids: list[int], row_group: int = 1000, **others: Any) -> Unit:
    """Samples whose every value follows from the user's index, and a column that the contract does not name."""
    columns = {
        "user_id": pa.array(ids, pa.int32()),
        "item_id": pa.array([number + 1 for number in ids], pa.int32()),
        "rate": pa.array([number - FIRST_ID for number in ids], pa.float32()),
        "clicks": [np.array([0, number, number + 1], dtype=">i4").tobytes() for number in ids],
        "label": pa.array([number % 2 for number in ids], pa.float32()),
        "click_day": pa.array([number % 2 * CLICKED for number in ids], pa.int32()),
        "weight": pa.array([2.0] * len(ids), pa.float32()),
        "event_id": [str(number) for number in ids],
        **others,
    }
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path, row_group)
    return Unit(path=str(path), rows=len(ids))


def write_sizes(folder: Path, sizes: list[int]) -> list[Unit]:
    starts = [FIRST_ID + sum(sizes[:position]) for position in range(len(sizes))]
    return [
        write(folder / f"part-{position}.parquet", list(range(start, start + size)))
        for position, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def stream(
    files: list[Unit],
    rank: int = 0,
    size: int = 1,
    batch_size: int = 8,
    shuffle_rows: int = 10,
    until: dt.date = DAY,
) -> Stream:
    train = Optimisation(
        batch_size=batch_size,
        epochs=1,
        embedding_learning_rate=0.1,
        dense_learning_rate=0.1,
        weight_decay=0.0,
        gradient_clip=1.0,
        seed=1,
        shuffle_rows=shuffle_rows,
    )
    return Stream(files, CONTRACT, train, until, rank, size)


def users(batches: list[Batch]) -> list[int]:
    return [user for batch in batches for user in batch.ids[batch.weights > 0, 0].tolist()]


UNEVEN = {
    "one file for all": [17],
    "one row": [1],
    "no row at all": [0],
    "an empty file among others": [5, 0, 5],
    "very different files": [40, 1, 2, 1, 9],
    "no file": [],
}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("sizes", UNEVEN.values(), ids=UNEVEN.keys())
def test_every_row_comes_once_and_all_ranks_make_the_same_steps(tmp_path: Path, sizes: list[int], size: int) -> None:
    files = write_sizes(tmp_path, sizes)
    ranks = [list(stream(files, rank, size).batches(epoch=0)) for rank in range(size)]
    assert Counter(user for batches in ranks for user in users(batches)) == Counter(
        range(FIRST_ID, FIRST_ID + sum(sizes))
    )
    assert {len(batches) for batches in ranks} == {stream(files, 0, size).steps(epoch=0)}


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 100])
@pytest.mark.parametrize("size", [1, 2])
def test_an_epoch_that_resumes_after_some_steps_is_the_rest_of_it(tmp_path: Path, steps: int, size: int) -> None:
    files = write_sizes(tmp_path, [17, 5, 30])
    for rank in range(size):
        source = stream(files, rank, size)
        whole = [user for batch in source.batches(epoch=0) for user in batch.ids.tolist()]
        before = [user for batch in list(source.batches(epoch=0))[:steps] for user in batch.ids.tolist()]
        after = source.batches(epoch=0, done=source.made(epoch=0, steps=steps))
        assert before + [user for batch in after for user in batch.ids.tolist()] == whole


@pytest.mark.parametrize(("before", "after"), [(2, 1), (3, 2), (1, 2), (2, 3)])
@pytest.mark.parametrize("steps", [1, 4])
def test_each_row_comes_once_though_the_number_of_ranks_changes(
    tmp_path: Path, before: int, after: int, steps: int
) -> None:
    files = write_sizes(tmp_path, [17, 5, 30, 4])
    first = [users(list(stream(files, rank, before).batches(epoch=0))[:steps]) for rank in range(before)]
    done = stream(files, 0, before).made(epoch=0, steps=steps)
    ranks = [list(stream(files, rank, after).batches(0, done)) for rank in range(after)]
    assert {len(batches) for batches in ranks} == {stream(files, 0, after).steps(0, done)}
    rest = [users(batches) for batches in ranks]
    assert sorted(chain.from_iterable(first + rest)) == list(range(FIRST_ID, FIRST_ID + 56))


def test_pools_that_were_made_before_are_not_read_again(tmp_path: Path) -> None:
    source = stream(write_sizes(tmp_path, [17, 17, 17]), shuffle_rows=10)
    done = source.made(epoch=0, steps=4)
    for path in set(tmp_path.iterdir()) - {Path(file.path) for file in source._shards(0, 1)[0][1:]}:
        path.unlink()
    assert len(list(source.batches(epoch=0, done=done))) == 5


@pytest.mark.parametrize("reader", READERS)
def test_a_batch_holds_the_rows_as_written(tmp_path: Path, reader: Reader) -> None:
    batches = list(replace(stream(write_sizes(tmp_path, [30])), reader=reader).batches(epoch=0))
    for batch in batches:
        user = batch.ids[:, 0]
        assert batch.ids.dtype == batch.sequences["clicks"].dtype == torch.int32
        assert torch.equal(batch.ids[:, 1], user + 1)
        assert torch.equal(batch.sequences["clicks"], torch.stack([torch.zeros_like(user), user, user + 1], dim=1))
        assert torch.equal(batch.numbers[:, 0], (user - FIRST_ID).float())
        assert torch.equal(batch.labels, (user % 2).float())
        assert batch.weights.tolist() == [2.0] * len(batch)


@pytest.mark.needs("petastorm")
def test_every_reader_gives_the_same_batches_bit_for_bit(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{number}.parquet", list(range(number, number + 40)), 7) for number in (1, 50, 100)]
    by_petastorm, by_arrow = (
        [batch for rank in range(2) for batch in replace(stream(files, rank, 2), reader=reader).batches(epoch=0)]
        for reader in READERS
    )
    for one, other in zip(by_petastorm, by_arrow, strict=True):
        assert all(map(torch.equal, every_tensor(one), every_tensor(other)))


def every_tensor(batch: Batch) -> list[torch.Tensor]:
    return [batch.ids, batch.numbers, *batch.sequences.values(), batch.labels, batch.weights]


def test_a_reader_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecdctr_spark.streaming.batches._misses_petastorm", lambda: "Petastorm is not installed")
    assert reading("auto") is reading("arrow")
    with pytest.raises(ConfigError, match=r"streaming.reader is petastorm, but Petastorm is not installed: use arrow"):
        reading("petastorm")


def test_a_click_after_the_last_day_seen_is_none(tmp_path: Path) -> None:
    file = write(tmp_path / "part.parquet", [FIRST_ID, FIRST_ID + 1])
    labels = {
        until: sum(float(batch.labels.sum()) for batch in stream([file], until=until).batches(epoch=0))
        for until in (DAY - dt.timedelta(days=1), DAY)
    }
    assert labels == {DAY - dt.timedelta(days=1): 0.0, DAY: 1.0}


def test_batches_are_no_larger_than_asked_for_and_nearly_equal(tmp_path: Path) -> None:
    batches = list(stream(write_sizes(tmp_path, [33]), shuffle_rows=100).batches(epoch=0))
    assert sorted(len(batch) for batch in batches) == [6, 6, 7, 7, 7]


def test_a_rank_out_of_rows_feeds_padding_of_weight_zero(tmp_path: Path) -> None:
    files = write_sizes(tmp_path, [8])
    owner = next(rank for rank in range(2) if users(list(stream(files, rank, 2).batches(epoch=0))))
    filler = list(stream(files, 1 - owner, 2).batches(epoch=0))
    assert len(filler) == 2
    for batch in filler:
        assert batch.weights.tolist() == batch.labels.tolist() == [0.0]
        assert batch.ids.tolist() == [[0, 0]] and batch.sequences["clicks"].tolist() == [[0, 0, 0]]
        assert batch.numbers.tolist() == [[0.0]]


def test_rows_are_shuffled_again_each_epoch_and_the_same_way_each_time(tmp_path: Path) -> None:
    files = write_sizes(tmp_path, [30, 30])
    order = users(list(stream(files).batches(epoch=0)))
    assert users(list(stream(files).batches(epoch=0))) == order
    assert users(list(stream(files).batches(epoch=1))) != order
    assert order != sorted(order)


@pytest.mark.parametrize("reader", READERS)
def test_order_follows_the_list_of_files_and_not_their_names(tmp_path: Path, reader: Reader) -> None:
    groups = [list(range(start, start + 5)) for start in range(FIRST_ID, FIRST_ID + 20, 5)]
    forth = [write(tmp_path / f"{number}.parquet", ids, row_group=2) for number, ids in enumerate(groups)]
    back = [write(tmp_path / f"{9 - number}.parquet", ids) for number, ids in enumerate(groups)]
    read = [
        users(list(replace(stream(files, shuffle_rows=100), reader=reader).batches(epoch=0))) for files in (forth, back)
    ]
    assert read[0] == read[1]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("counted", [4, 6])
@pytest.mark.parametrize("position", [0, 2])
def test_a_file_with_other_rows_than_its_table_says_is_named(
    tmp_path: Path, counted: int, position: int, reader: Reader
) -> None:
    files = write_sizes(tmp_path, [5, 5, 5])
    files[position] = structs.replace(files[position], rows=counted)
    with pytest.raises(ConfigError, match=rf"part-{position}.parquet: expected {counted} rows"):
        list(replace(stream(files, shuffle_rows=100), reader=reader).batches(epoch=0))


@pytest.mark.parametrize("reader", READERS)
def test_a_null_id_is_refused(tmp_path: Path, reader: Reader) -> None:
    file = write(tmp_path / "a.parquet", [1, 2], item_id=pa.array([1, None], pa.int32()))
    with pytest.raises(ConfigError, match="column item_id holds nulls"):
        list(replace(stream([file]), reader=reader).batches(epoch=0))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_column_is_named(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(ConfigError, match=r"a.parquet: no column rate"):
        list(replace(stream([write(tmp_path / "a.parquet", [1, 2], rate=None)]), reader=reader).batches(epoch=0))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(ConfigError, match=r"gone.parquet: missing or damaged"):
        list(replace(stream([Unit(path=str(tmp_path / "gone.parquet"), rows=1)]), reader=reader).batches(epoch=0))


def test_waiting_is_measured(tmp_path: Path) -> None:
    source = stream(write_sizes(tmp_path, [30]))
    assert source.waited == 0.0
    list(source.batches(epoch=0))
    assert 0.0 < source.waited < 30.0


def test_no_thread_outlives_the_consumer(tmp_path: Path) -> None:
    before = threading.active_count()
    batches = stream(write_sizes(tmp_path, [10, 10, 10, 10])).batches(epoch=0)
    next(batches)
    assert threading.active_count() > before
    del batches
    assert threading.active_count() == before


def test_the_next_pool_is_read_while_the_present_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]
    read = _ahead(lambda position: begun[position].set() or position, range(3))
    assert next(read) == 0
    assert begun[1].wait(timeout=10)
    assert not begun[2].is_set()
    assert list(read) == [1, 2]


def test_an_error_while_reading_ahead_is_raised_in_its_place() -> None:
    read = _ahead(lambda divisor: 1 // divisor, [1, 0])
    assert next(read) == 1
    with pytest.raises(ZeroDivisionError):
        next(read)
