"""Target attention and cross network against their papers' formulas, and their gradients against autograd's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ecdctr_spark.models.behaviours import Behaviours, present
from ecdctr_spark.models.layers import BatchNorm, CrossNetwork, MeanPooling, Mlp, TargetAttention

DIMENSION, HIDDEN = 4, 6
# Three histories: padded at the front, of full length, empty.
ROWS = torch.tensor([[0, 0, 7, 3], [5, 7, 7, 1], [0, 0, 0, 0]])


def embedded(rows: Tensor) -> Behaviours:
    """The behaviours of histories, with a vector of each that is drawn by its place."""
    found, owners = present(rows)
    vectors = torch.randn(len(found), DIMENSION, generator=torch.Generator().manual_seed(2))
    return Behaviours(vectors.requires_grad_(), owners)


def padded(behaviours: Behaviours, rows: Tensor) -> Tensor:
    """The vectors as they were before padding was left out: [B, L, D], zero where nothing is."""
    whole = torch.zeros(*rows.shape, DIMENSION)
    return whole.masked_scatter((rows != 0).unsqueeze(-1), behaviours.vectors)


def check_gradients(found: Tensor, expected: Tensor, of: Sequence[Tensor]) -> None:
    """Both have the same values and, by a random direction, the same gradients with respect to `of`."""
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(found)
    pairs = (torch.autograd.grad(each, list(of), direction) for each in (found, expected))
    for ours, theirs in zip(*pairs, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_what_is_present_is_listed_sample_after_sample() -> None:
    rows, owners = present(ROWS)
    assert rows.tolist() == [7, 3, 5, 7, 7, 1]
    assert owners.sample.tolist() == [0, 0, 1, 1, 1, 1]
    assert owners.starts.tolist() == [0, 2, 6] and owners.counts.tolist() == [2, 4, 0]


@pytest.mark.parametrize(("room", "places"), [(0.5, 6), (0.75, 9), (1.0, 12)])
def test_with_room_padding_follows_what_is_present_and_belongs_to_the_last_sample(room: float, places: int) -> None:
    rows, owners = present(ROWS, room)
    assert rows.tolist() == [7, 3, 5, 7, 7, 1] + [0] * (places - 6)
    assert owners.sample.tolist() == [0, 0, 1, 1, 1, 1] + [2] * (places - 6)
    assert owners.starts.tolist() == [0, 2, 6] and owners.counts.tolist() == [2, 4, 0]


@pytest.mark.parametrize("pooling", [TargetAttention(DIMENSION, [HIDDEN, 3]), MeanPooling()], ids=["attention", "mean"])
def test_room_changes_neither_the_interest_nor_a_gradient(pooling: nn.Module) -> None:
    query, (vectors, _) = torch.randn(len(ROWS), DIMENSION, requires_grad=True), embedded(ROWS)
    padding = torch.zeros(3, DIMENSION, requires_grad=True)
    in_room = Behaviours(torch.cat([vectors, padding]), present(ROWS, room=0.75)[1])
    needed = [vectors, *pooling.parameters(), *([query] if isinstance(pooling, TargetAttention) else [])]
    check_gradients(pooling(query, in_room), pooling(query, Behaviours(vectors, present(ROWS)[1])), needed)


@pytest.mark.parametrize("hidden", [[HIDDEN], [HIDDEN, 3], []])
def test_target_attention_is_an_mlp_of_query_key_difference_and_product(hidden: list[int]) -> None:
    attention, behaviours = TargetAttention(DIMENSION, hidden), embedded(ROWS)
    width = attention.of_key.out_features
    # A layer over [q, k, q - k, q * k] with blocks A, B, C, P is one with A + C on q, B - C on k and P on q * k.
    blocks = torch.randn(4, width, DIMENSION, requires_grad=True)
    with torch.no_grad():
        attention.of_query.weight.copy_(blocks[0] + blocks[2])
        attention.of_key.weight.copy_(blocks[1] - blocks[2])
        attention.of_product.weight.copy_(blocks[3])
    query, keys = torch.randn(len(ROWS), DIMENSION, requires_grad=True), padded(behaviours, ROWS)
    wide = query.unsqueeze(1).expand_as(keys)
    features = torch.cat([wide, keys, wide - keys, wide * keys], -1)
    first = features @ torch.cat(list(blocks), 1).T + attention.of_query.bias
    expected = (attention.rest(first) * keys * (ROWS != 0).unsqueeze(-1)).sum(1)
    rest = [attention.of_query.bias, *attention.rest.parameters()]
    check_gradients(attention(query, behaviours), expected, [query, behaviours.vectors, *rest])


@pytest.mark.parametrize("hidden", [[HIDDEN], [HIDDEN, 3], []])
def test_target_attention_has_the_gradients_of_its_three_parts(hidden: list[int]) -> None:
    attention, behaviours = TargetAttention(DIMENSION, hidden), embedded(ROWS)
    query, keys = torch.randn(len(ROWS), DIMENSION, requires_grad=True), padded(behaviours, ROWS)
    of_query = attention.of_query(query).unsqueeze(1)
    first = of_query + attention.of_key(keys) + attention.of_product(keys * query.unsqueeze(1))
    expected = (attention.rest(first) * keys * (ROWS != 0).unsqueeze(-1)).sum(1)
    check_gradients(attention(query, behaviours), expected, [query, behaviours.vectors, *attention.parameters()])


def test_of_a_sample_without_behaviours_nothing_is_known() -> None:
    rows, query = torch.zeros(3, 4, dtype=torch.int32), torch.randn(3, DIMENSION)
    for pooling in (TargetAttention(DIMENSION, [HIDDEN]), MeanPooling()):
        pooled = pooling(query, embedded(rows))
        assert pooled.shape == (3, DIMENSION) and (pooled == 0).all()
        assert (pooling(query, embedded(ROWS))[2] == 0).all()


def test_mean_pooling_is_the_mean_of_what_is_present_whatever_the_target() -> None:
    behaviours = embedded(ROWS)
    expected = padded(behaviours, ROWS).sum(1) / torch.tensor([[2.0], [4.0], [1.0]])
    pooled = MeanPooling()(torch.randn(len(ROWS), DIMENSION), behaviours)
    check_gradients(pooled, expected, [behaviours.vectors])


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_a_cross_layer_multiplies_its_input_with_a_linear_map_of_what_came_before(layers: int) -> None:
    cross, start = CrossNetwork(3, layers), torch.randn(5, 3, requires_grad=True)
    expected: Tensor = start
    for layer in cross.layers:
        expected = start * layer(expected) + expected
    check_gradients(cross(start), expected, [start, *cross.parameters()])


PARTS = {"cross": CrossNetwork(DIMENSION, 2), "attention": TargetAttention(DIMENSION, [HIDDEN])}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_under_autocast_products_are_bfloat16_and_gradients_float32(part: nn.Module) -> None:
    start = torch.randn(len(ROWS), DIMENSION, requires_grad=True)
    others = [embedded(ROWS)] if isinstance(part, TargetAttention) else []
    inputs = [start, *part.parameters()]
    found = []
    for half in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found.append(torch.autograd.grad(part(start, *others).float().square().sum(), inputs))
    for halved, whole in zip(*found, strict=True):
        assert halved.dtype == torch.float32
        assert not torch.equal(halved, whole)
        assert_close(halved, whole, rtol=0.1, atol=0.1 * whole.abs().max().item())


@pytest.mark.parametrize("type_", [torch.float32, torch.bfloat16])
def test_batch_norm_by_shares_is_that_of_the_rows_that_count(type_: torch.dtype) -> None:
    counted, padding = (torch.randn(5, DIMENSION) * 3 + 1).to(type_), torch.full((2, DIMENSION), 7.0).to(type_)
    whole, norm, plain = torch.cat([counted, padding]), BatchNorm(DIMENSION), nn.BatchNorm1d(DIMENSION)
    for each in (norm, plain):
        nn.init.constant_(each.weight, 1.5)
        nn.init.constant_(each.bias, 0.5)
    for inputs in (counted, whole):
        inputs.requires_grad_()
    norm.shares = torch.tensor([0.2] * 5 + [0.0] * 2)
    found, expected = norm(whole), plain(counted)
    assert found.dtype == type_
    direction = torch.randn(5, DIMENSION).to(type_)
    (found[:5] * direction).sum().backward()
    (expected * direction).sum().backward()
    close = {} if type_ == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    assert_close(found[:5], expected, **close)
    assert_close(whole.grad[:5], counted.grad, **close)
    assert not whole.grad[5:].any()
    for (name, ours), theirs in zip(norm.state_dict().items(), plain.state_dict().values(), strict=True):
        assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}")
    for ours, theirs in zip(norm.parameters(), plain.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad, **close)
    norm.eval()
    assert_close(norm(whole)[:5], plain.eval()(counted), **close)


def test_an_mlp_has_batch_norm_in_each_hidden_layer_and_none_without() -> None:
    mlp = Mlp(4, [8, 2])
    assert [type(layer).__name__ for layer in mlp] == ["Linear", "BatchNorm", "ReLU"] * 2
    assert mlp(torch.randn(3, 4)).shape == (3, mlp.outputs) == (3, 2)
    assert Mlp(4, []).outputs == 4
