"""Every model by its contract: one batch in, one logit per sample out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from msgspec import structs
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE, Exchange
from ecdctr_spark.models.networks import CLASSES, build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.networks import NETWORKS, Network, checked
from tests.made_up import (
    CTR_CONTRACT,
    ROWS,
    TINY_CONTRACT,
    UNKNOWN_ITEM,
    UNKNOWN_USER,
    batch,
    ctr_spec,
    part,
    tiny_spec,
)

SPECS = {
    "tpm": tiny_spec(),
    "ads only": ctr_spec(),
    "CPM": ctr_spec(memory="attention", months=("2000-05", "2000-06")),
    "CPM without months": ctr_spec(memory="attention"),
    "A-CTR": ctr_spec(memory="merged"),
    "without numbers and behaviours": ctr_spec(contract=TINY_CONTRACT),
    "mean": ctr_spec(pooling="mean"),
    "linear": ctr_spec(hidden=[], attention_hidden=[], cross_layers=0),
}


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    """Each network there is."""
    chosen: ModelSpec = request.param
    return chosen


def test_one_logit_per_sample_and_one_gradient_per_parameter(spec: ModelSpec) -> None:
    model = build(spec, ALONE)
    logits = model(batch(7, contract=spec.contract))
    assert logits.shape == (7,) and logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_building_twice_gives_the_same_model_and_leaves_the_random_state_alone(spec: ModelSpec) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, second = (build(spec, ALONE).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_order_and_company_of_samples_do_not_matter_when_predicting(spec: ModelSpec) -> None:
    model, samples = build(spec, ALONE).eval(), batch(6, contract=spec.contract)
    with torch.no_grad():
        together = model(samples)
        alone = torch.cat([model(part(samples, [position])) for position in range(6)])
    torch.testing.assert_close(together, alone)


def test_an_index_beyond_the_table_is_read_as_an_unknown_row_of_its_field() -> None:
    model = build(ctr_spec(), ALONE).eval()
    known = batch(3)
    late = ROWS + 5  # an odd index: the second unknown row of its field
    beyond = replace(known, ids=torch.full((3, 2), late), sequences={"clicks": torch.full((3, 5), late)})
    unknown = replace(
        known,
        ids=torch.tensor([[UNKNOWN_USER + 1, UNKNOWN_ITEM + 1]] * 3),
        sequences={"clicks": torch.full((3, 5), UNKNOWN_ITEM + 1)},
    )
    assert torch.equal(model(beyond), model(unknown))
    assert not torch.equal(model(beyond), model(known))


def test_behaviours_memory_and_numbers_reach_the_logit() -> None:
    model = build(ctr_spec(memory="merged"), ALONE).eval()
    sample = batch(4)
    before = model(sample)
    other = {"clicks": torch.full((4, 5), 30)}
    assert not torch.equal(model(replace(sample, sequences=other)), before)
    assert not torch.equal(model(replace(sample, numbers=sample.numbers + 1)), before)
    model.memory.table.weight += 1  # type: ignore[union-attr, operator]
    assert not torch.equal(model(sample), before)


def test_what_cannot_be_built_is_refused_with_a_reason() -> None:
    with pytest.raises(ConfigError, match="expected one of " + ", ".join(NETWORKS)):
        build(tiny_spec(kind="ffm"), ALONE)
    with pytest.raises(ConfigError, match="reads no behaviours"):
        build(tiny_spec(contract=CTR_CONTRACT), ALONE)
    with pytest.raises(ConfigError, match="needs the id feature item_id"):
        no_items = structs.replace(CTR_CONTRACT, ids=("user_id",), unknown=(UNKNOWN_USER,))
        build(ctr_spec(contract=no_items), ALONE)


class OneNumber(Network, frozen=True):
    """The settings of a made-up network."""

    scale: float


class Scaled(nn.Module):
    """The rate, scaled: all that a network has to be."""

    def __init__(self, settings: OneNumber, spec: ModelSpec, exchange: Exchange) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(settings.scale))

    def forward(self, batch: Batch) -> Tensor:
        return batch.numbers[:, 0] * self.scale


def test_a_new_network_is_a_class_its_settings_and_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "scaled", OneNumber)
    monkeypatch.setitem(CLASSES, "scaled", Scaled)
    spec = structs.replace(ctr_spec(), network={"kind": "scaled", "dimension": 4, "seed": 1, "scale": 3.0})
    samples = batch(5)
    assert torch.equal(build(spec, ALONE)(samples), 3.0 * samples.numbers[:, 0])
    misspelt = structs.replace(spec, network={"kind": "scaled", "dimension": 4, "seed": 1, "scael": 3.0})
    with pytest.raises(ConfigError, match=r"network\.scale: is missing|unknown key network\.scael"):
        build(misspelt, ALONE)


def test_an_unknown_setting_of_a_network_is_named_where_it_was_written() -> None:
    wrong = {**ctr_spec().network, "hiden": [8]}
    with pytest.raises(ConfigError, match=r"unknown key methods\.m\.levels\.l\.network\.hiden; .* hidden"):
        checked(wrong, "methods.m.levels.l.network")
