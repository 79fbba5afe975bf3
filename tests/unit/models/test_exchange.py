"""What travels as float16 between ranks: float32 alone, rounded, never infinite; half the bytes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import ALONE, InHalf, Wire, on_wire
from tests.thread_ranks import ThreadWorld, on_ranks

LARGEST, ROWS, DIMENSION = 65504.0, 50, 16


def passed_on(tensor: Tensor, world: ThreadWorld) -> Tensor:
    """What a rank gets of a tensor that each of two sends to the other as a whole."""
    here = [len(tensor), 0] if world.rank else [0, len(tensor)]
    received, counts = InHalf(world).all_to_all(tensor, here)()
    assert counts == here
    return received


def test_numbers_arrive_as_float32_rounded_to_float16() -> None:
    sent = torch.tensor([1.0, -0.1, 1 / 3, 1e-5])
    for received in on_ranks(2, lambda world: passed_on(sent, world)):
        assert received.dtype == torch.float32
        assert torch.equal(received, sent.to(torch.float16).to(torch.float32))
        torch.testing.assert_close(received, sent, rtol=2**-10, atol=2**-24)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (65504.0, LARGEST),
        (65520.0, LARGEST),  # rounds to infinity
        (1e30, LARGEST),
        (-1e30, -LARGEST),
        (float("inf"), LARGEST),
        (float("nan"), float("nan")),
    ],
)
def test_what_float16_cannot_hold_arrives_as_the_largest_that_it_can(sent: float, received: float) -> None:
    for found in on_ranks(2, lambda world: passed_on(torch.tensor([[sent]]), world)):
        torch.testing.assert_close(found, torch.tensor([[received]]), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float64])
def test_other_types_travel_as_they_are(dtype: torch.dtype) -> None:
    sent = torch.tensor([7, 70_001, -70_003], dtype=dtype)
    for received in on_ranks(2, lambda world: passed_on(sent, world)):
        assert received.dtype == dtype and torch.equal(received, sent)


def test_a_step_sends_half_of_the_bytes_of_vectors_and_gradients() -> None:
    def sent(wire: Wire, world: ThreadWorld) -> int:
        embedding = ShardedEmbedding(ROWS, DIMENSION, on_wire(world, wire), seed=1)
        embedding(torch.arange(ROWS)).sum().backward()
        embedding.step(0.1, 1.0)
        return world.sent

    whole, half = (sum(on_ranks(2, lambda world, wire=wire: sent(wire, world))) for wire in ("float32", "float16"))  # type: ignore[misc]
    questions = 2 * 4 * ROWS  # two ranks ask for an int32 each
    assert whole == questions + 2 * 2 * 4 * ROWS * DIMENSION
    assert half - questions == (whole - questions) / 2


def test_one_rank_sends_nothing_and_rounds_nothing() -> None:
    assert on_wire(ALONE, "float16") is ALONE
    assert all(on_ranks(2, lambda world: on_wire(world, "float32") is world))
