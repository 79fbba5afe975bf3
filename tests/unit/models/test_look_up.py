"""Several tables are looked up in one exchange, and each gives what it gives on its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecdctr_spark.models.embedding import ShardedEmbedding, ShardedTable
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.look_up import LookUp, Wanted
from tests.thread_ranks import ThreadWorld, on_ranks

# Rows and dimension: tables of several sizes, one with no more rows than there are ranks.
TABLES = ((23, 4), (40, 9), (5, 1))


def filled(place: int, world: ThreadWorld) -> ShardedTable:
    """A table whose vectors name it, its rows and its columns."""
    rows, dimension = TABLES[place]
    table = ShardedTable(rows, dimension, world)
    columns = 100 * table.local_rows().unsqueeze(1) + torch.arange(dimension)
    table.weight.copy_(columns + 10_000 * place)
    return table


def wanted_of(place: int, rank: int) -> Tensor:
    """Rows with repetitions, others on each rank; rank 1 reads none of the second table."""
    random = torch.Generator().manual_seed(10 * place + rank)
    number = 0 if (place, rank) == (1, 1) else 15 + rank
    return torch.randint(TABLES[place][0], (number,), generator=random, dtype=torch.int32)


@pytest.mark.parametrize("places", [(0,), (1, 0), (0, 1, 2), (0, 0)])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_table_gives_its_rows_whatever_is_looked_up_beside_it(size: int, places: tuple[int, ...]) -> None:
    def look_up(world: ThreadWorld) -> None:
        tables = [filled(place, world) for place in places]
        wanted = [Wanted(table, wanted_of(place, world.rank)) for table, place in zip(tables, places, strict=True)]
        answers = LookUp(wanted).answers()
        assert world.calls == ["all_to_all", "arrival"] * 2
        for place, table, (_, rows), answer in zip(places, tables, wanted, answers, strict=True):
            alone = table(rows)
            assert torch.equal(table(rows, answer), alone)
            assert torch.equal(alone, 100.0 * rows.unsqueeze(1) + torch.arange(TABLES[place][1]) + 10_000 * place)

    on_ranks(size, look_up)


def test_an_answer_is_of_the_table_as_it_is_when_it_is_given() -> None:
    def look_up(world: ThreadWorld) -> Tensor:
        table = filled(0, world)
        rows = torch.tensor([3, 8, 3])
        begun = LookUp([Wanted(table, rows)])
        table.weight.add_(1)
        (answer,) = begun.answers()
        vectors: Tensor = table(rows, answer)
        return vectors[:, 0]

    assert [found.tolist() for found in on_ranks(2, look_up)] == [[301, 801, 301]] * 2


def test_gradients_go_back_to_the_rows_of_their_own_table() -> None:
    def trained(world: ThreadWorld) -> list[Tensor]:
        tables = [ShardedEmbedding(12, 4, world, seed) for seed in (1, 2)]
        rows = torch.tensor([1, 5, 5 + world.rank])
        answers = LookUp([Wanted(table, rows) for table in tables]).answers()
        (tables[1](rows, answers[1]) * 3).sum().backward()
        tables[0](rows, answers[0]).sum().backward()
        for table in tables:
            table.step(0.1, 1.0)
        return [table.state for table in tables]

    of_ranks = on_ranks(2, trained)
    states = [torch.stack([share[place] for share in of_ranks], 1).flatten() for place in (0, 1)]
    # Both ranks read row 1, three times row 5 in all, and one of them row 6.
    expected = torch.zeros(12).index_put_((torch.tensor([1, 5, 6]),), torch.tensor([2.0, 3.0, 1.0]).square())
    assert torch.equal(states[0], expected)
    assert torch.equal(states[1], 9 * expected)


def test_one_rank_asks_nobody() -> None:
    table = ShardedTable(23, 4, ALONE)
    assert LookUp([Wanted(table, torch.tensor([1]))] * 2).answers() == [None, None]
