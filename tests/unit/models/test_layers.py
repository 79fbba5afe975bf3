"""Target attention and cross network against their papers' formulas."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from ecdctr_spark.models.layers import CrossNetwork, MeanPooling, Mlp, TargetAttention

DIMENSION, HIDDEN = 4, 6


def test_target_attention_is_an_mlp_of_query_key_difference_and_product() -> None:
    attention = TargetAttention(DIMENSION, [HIDDEN])
    query, keys = torch.randn(3, DIMENSION), torch.randn(3, 5, DIMENSION)
    # A layer over [q, k, q - k, q * k] with blocks A, B, C, P is one with A + C on q, B - C on k and P on q * k.
    blocks = torch.randn(4, HIDDEN, DIMENSION)
    with torch.no_grad():
        attention.of_query.weight.copy_(blocks[0] + blocks[2])
        attention.of_key.weight.copy_(blocks[1] - blocks[2])
        attention.of_product.weight.copy_(blocks[3])
    wide = query.unsqueeze(1).expand_as(keys)
    features = torch.cat([wide, keys, wide - keys, wide * keys], -1)
    first = features @ torch.cat(list(blocks), 1).T + attention.of_query.bias
    expected = (attention.rest(first) * keys).sum(1)
    assert_close(attention(query, keys, torch.ones(3, 5, dtype=torch.bool)), expected, rtol=1e-4, atol=1e-5)


def test_target_attention_does_not_see_padding() -> None:
    attention = TargetAttention(DIMENSION, [HIDDEN])
    query, keys = torch.randn(1, DIMENSION), torch.randn(1, 3, DIMENSION)
    present = torch.tensor([[False, True, True]])
    other = keys.clone()
    other[:, 0] = 100.0
    assert torch.equal(attention(query, keys, present), attention(query, other, present))
    assert (attention(query, keys, torch.zeros(1, 3, dtype=torch.bool)) == 0).all()


def test_mean_pooling_is_the_mean_of_what_is_present_whatever_the_target() -> None:
    keys, present = torch.randn(2, 3, DIMENSION), torch.tensor([[False, True, True], [False, False, False]])
    pooled = MeanPooling()(torch.randn(2, DIMENSION), keys, present)
    assert_close(pooled[0], (keys[0, 1] + keys[0, 2]) / 2)
    assert (pooled[1] == 0).all()


def test_a_cross_layer_multiplies_its_input_with_a_linear_map_of_what_came_before() -> None:
    cross = CrossNetwork(3, 2)
    start = torch.randn(5, 3)
    first = start * cross.layers[0](start) + start
    assert_close(cross(start), start * cross.layers[1](first) + first)
    assert torch.equal(CrossNetwork(3, 0)(start), start)


def test_an_mlp_has_batch_norm_in_each_hidden_layer_and_none_without() -> None:
    mlp = Mlp(4, [8, 2])
    assert [type(layer).__name__ for layer in mlp] == ["Linear", "BatchNorm1d", "ReLU"] * 2
    assert mlp(torch.randn(3, 4)).shape == (3, mlp.outputs) == (3, 2)
    assert Mlp(4, []).outputs == 4
