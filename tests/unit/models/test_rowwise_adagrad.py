"""Row-wise Adagrad: a row's gradients are summed before they are squared, whichever kernel does it."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ecdctr_spark.models.rowwise_adagrad import UPDATES, Rows, Update, by_fbgemm, by_torch, in_room
from ecdctr_spark.settings.base import ConfigError

ROWS, DIMENSION = 50, 8


def in_use() -> Rows:
    """A table that was trained before."""
    chance = torch.Generator().manual_seed(1)
    return Rows(torch.randn(ROWS, DIMENSION, generator=chance), torch.rand(ROWS, generator=chance))


def by_the_book(table: Rows, rows: Tensor, gradients: Tensor, scale: float, learning_rate: float) -> None:
    """The formula, with a gradient as large as the table."""
    whole = torch.zeros_like(table.weight).index_add_(0, rows.long(), gradients) * scale
    table.state.add_(whole.square().mean(1))
    table.weight.sub_(learning_rate * whole / (table.state.sqrt() + 1e-10).unsqueeze(1))


@pytest.fixture(params=[*UPDATES, "in room"])
def update(request: pytest.FixtureRequest) -> Update:
    """Each of them."""
    if request.param == "fbgemm":
        pytest.importorskip("fbgemm_gpu")
    return {**UPDATES, "in room": in_room}[request.param]


def test_is_the_formula_for_rows_that_come_more_than_once(update: Update) -> None:
    expected, found, chance = in_use(), in_use(), torch.Generator().manual_seed(2)
    for step in range(3):
        rows = torch.randint(ROWS, (200,), generator=chance, dtype=torch.int32)
        gradients = torch.randn(200, DIMENSION, generator=chance)
        by_the_book(expected, rows, gradients, 0.5, 0.1 / (step + 1))
        update(found, rows, gradients, 0.5, 0.1 / (step + 1))
    for ours, theirs in zip(found, expected, strict=True):  # row 0 is the padding, which the table keeps at zero
        assert_close(ours[1:], theirs[1:], rtol=1e-5, atol=1e-6)


def test_leaves_the_other_rows_and_the_gradients_as_they_are(update: Update) -> None:
    before, table, gradients = in_use(), in_use(), torch.ones(3, DIMENSION)
    update(table, torch.tensor([7, 3, 7], dtype=torch.int32), gradients, 0.5, 0.1)
    changed = (table.weight != before.weight).any(1).nonzero().squeeze(1)
    assert changed.tolist() == (table.state != before.state).nonzero().squeeze(1).tolist() == [3, 7]
    assert (gradients == 1).all()


def test_a_row_that_was_never_trained_moves_by_the_learning_rate(update: Update) -> None:
    table = Rows(torch.zeros(ROWS, DIMENSION), torch.zeros(ROWS))
    update(table, torch.tensor([4], dtype=torch.int32), torch.full((1, DIMENSION), -3.0), 1.0, 0.25)
    assert_close(table.weight[4], torch.full((DIMENSION,), 0.25))


def test_numbers_may_be_tensors_that_change_between_replays() -> None:
    expected, found, gradients = in_use(), in_use(), torch.ones(3, DIMENSION)
    rows = torch.tensor([7, 3, 7], dtype=torch.int32)
    by_torch(expected, rows, gradients, 0.5, 0.1)
    in_room(found, rows, gradients, torch.tensor(0.5), torch.tensor(0.1))
    assert_close(found.weight, expected.weight)
    assert_close(found.state, expected.state)


def test_tables_of_one_shape_do_not_interfere(update: Update) -> None:
    first, second, before = in_use(), in_use(), in_use()
    update(first, torch.tensor([1], dtype=torch.int32), torch.ones(1, DIMENSION), 1.0, 0.1)
    update(second, torch.tensor([2], dtype=torch.int32), torch.ones(1, DIMENSION), 1.0, 0.1)
    assert torch.equal(first.weight[2], before.weight[2]) and torch.equal(second.weight[1], before.weight[1])


def test_a_missing_fbgemm_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fbgemm_gpu.split_embedding_configs", None)
    with pytest.raises(ConfigError, match=r"train\.kernel fbgemm: FBGEMM cannot be imported .* install fbgemm-gpu"):
        by_fbgemm(Rows(torch.zeros(3, 2), torch.zeros(3)), torch.tensor([1]), torch.ones(1, 2), 1.0, 0.1)
