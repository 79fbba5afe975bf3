"""A batch of impressions, and the parts in which a step passes it."""

from __future__ import annotations

import pytest
import torch

from tests.made_up import batch


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_parts_hold_each_row_once_in_their_order(number: int) -> None:
    whole = batch(5)
    parts = whole.parts(number)
    assert len(parts) == number
    for position, tensor in enumerate(whole.tensors()):
        assert torch.equal(torch.cat([part.tensors()[position] for part in parts]), tensor)


def test_with_fewer_rows_than_parts_the_last_are_one_row_that_weighs_nothing() -> None:
    whole = batch(2)
    *rows, nothing, last = whole.parts(4)
    assert [len(part) for part in rows] == [1, 1]
    for part in (nothing, last):
        assert {len(tensor) for tensor in part.tensors()} == {1}
        assert part.weights.tolist() == [0.0]
