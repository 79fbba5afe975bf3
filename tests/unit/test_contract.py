"""What a model reads of a sample follows from the fields, all of them or the basic ones alone."""

from __future__ import annotations

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.contract import Sequence, contract
from tests.configured import FIRST_DAY


def starts(config: Config) -> dict[str, int]:
    """A first unknown or bucket row for each field that is an index."""
    indices = [feature.name for feature in config.features.fields if feature.role == "index"]
    return {name: 10 * place for place, name in enumerate(indices, start=1)}


def test_all_fields_are_read_in_their_order(config: Config) -> None:
    read = contract(config.features, starts(config), "all")
    counts = [feature.name for feature in config.features.counters if feature.kind == "count"]
    assert read.ids == ("user_id", "item_id", "item_category", *counts)
    assert read.unknown == tuple(10 * place for place in range(1, len(read.ids) + 1))
    assert read.numbers == tuple(feature.name for feature in config.features.counters if feature.kind == "rate")
    assert read.sequences == (Sequence(name="recent_clicks", length=20, of="item_id"),)


def test_basic_fields_alone_are_read_where_that_is_asked_for() -> None:
    changes = ["features.fields.item_id.basic=false", "features.fields.item_ad_rate_28.basic=true"]
    config = load_config([], [FIRST_DAY, *changes])
    read = contract(config.features, starts(config), "basic")
    assert (read.ids, read.unknown) == (("user_id", "item_category"), (10, 30))
    assert (read.numbers, read.sequences) == (("item_ad_rate_28",), ())
