"""AdamW of all parameters at once, beside torch's own."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor, nn

from ecdctr_spark.training.adamw import AdamW

RATE, DECAY = 0.05, 0.1


def network() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


def gradients(number: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(6)
    size = sum(parameter.numel() for parameter in network().parameters())
    return [torch.randn(size, generator=chance) for _ in range(number)]


def by_torch(model: nn.Module, vectors: list[Tensor]) -> torch.optim.AdamW:
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    for vector in vectors:
        parameters = list(model.parameters())
        pieces = vector.split([parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        optimiser.step()
    return optimiser


def test_an_update_and_its_state_are_those_of_torch() -> None:
    ours, theirs = network(), network()
    optimiser, expected = AdamW(ours, DECAY), by_torch(theirs, gradients(5))
    for gradient in gradients(5):
        optimiser.step(gradient, RATE)
    state = optimiser.tensors()
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter, other)
        for kind, tensor in expected.state[other].items():
            torch.testing.assert_close(state.pop(f"{name}/{kind}"), tensor)
    assert not state


def test_a_state_that_is_taken_over_continues_bit_for_bit() -> None:
    whole, first, second = network(), network(), network()
    at_once, before = AdamW(whole, DECAY), AdamW(first, DECAY)
    for gradient in gradients(4):
        at_once.step(gradient, RATE)
    for gradient in gradients(4)[:2]:
        before.step(gradient, RATE)
    second.load_state_dict(first.state_dict())
    after = AdamW(second, DECAY)
    for key, tensor in before.tensors().items():
        after.take(*key.rsplit("/", 1), tensor)
    for gradient in gradients(4)[2:]:
        after.step(gradient, RATE)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)


def test_a_parameter_that_is_new_beside_others_starts_at_its_first_step() -> None:
    ours, theirs = network(), network()
    kept, fresh = AdamW(ours, DECAY), AdamW(theirs, DECAY)
    kept.take("0.weight", "step", torch.tensor(1000.0))
    for optimiser in (kept, fresh):
        optimiser.step(gradients(1)[0], RATE)
    assert torch.equal(ours[2].weight, theirs[2].weight) and not torch.equal(ours[0].weight, theirs[0].weight)
    assert kept.tensors()["0.weight/step"] == 1001 and kept.tensors()["2.bias/step"] == 1


def test_no_state_before_the_first_step() -> None:
    assert AdamW(network(), DECAY).tensors() == {}


def test_the_compiler_is_not_imported() -> None:
    code = """import sys
from torch import nn
from ecdctr_spark.training.adamw import AdamW
AdamW(nn.Linear(2, 1), 0.0)
assert "torch._dynamo" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)
