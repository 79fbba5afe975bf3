"""What is like another method, level or network names what differs, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from ecdctr_spark.methods.likeness import expanded

BASE: dict[str, Any] = {
    "title": "base",
    "levels": {
        "low": {"network": {"kind": "ctr", "hidden": [8]}, "train": {"epochs": 1, "seed": 2}},
        "high": {"network": {"like": "low"}, "train": {"epochs": 3}},
    },
}


def levels(**methods: Any) -> dict[str, Any]:
    """The levels of method `other`, without their names."""
    found = expanded({"base": BASE, **methods})["other"]["levels"]
    return {name: {key: value for key, value in level.items() if key != "name"} for name, level in found.items()}


def test_a_method_differs_from_another_by_the_keys_it_names() -> None:
    other = levels(other={"like": "base", "levels": {"low": {"train": {"epochs": 2}}}})
    assert other["low"]["train"] == {"epochs": 2, "seed": 2}
    assert other["high"]["train"] == {"epochs": 3}


def test_what_is_like_a_level_follows_it_when_that_changes() -> None:
    other = levels(other={"like": "base", "levels": {"low": {"network": {"hidden": [4]}}}})
    assert other["high"]["network"] == {"kind": "ctr", "hidden": [4]}


def test_a_level_is_like_one_of_its_own_method_or_of_another() -> None:
    own = {"low": {"like": "base.low"}, "twin": {"like": "low", "train": {"seed": 9}}}
    assert levels(other={"levels": own})["twin"]["train"] == {"epochs": 1, "seed": 9}
    assert levels(other={"levels": {"top": {"like": "base.high"}}})["top"]["network"] == {"kind": "ctr", "hidden": [8]}


def test_null_takes_away() -> None:
    other = levels(other={"like": "base", "levels": {"low": {"train": None}, "high": None}})
    assert other == {"low": {"network": {"kind": "ctr", "hidden": [8]}, "train": None}}


def test_another_kind_replaces_the_whole_node() -> None:
    other = levels(other={"like": "base", "levels": {"low": {"network": {"kind": "dcn", "layers": 2}}}})
    assert other["low"]["network"] == {"kind": "dcn", "layers": 2}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"like": "bsae"}, "methods.other: like 'bsae', expected another method: base"),
        ({"like": "other"}, "methods.other: like 'other'"),
        (
            {"levels": {"a": {"like": "b"}, "b": {}}},
            "levels.a: like 'b', .* before it in its method: none",
        ),
        ({"levels": {"a": {"like": "base.top"}}}, "methods.other.levels.a: like 'base.top'"),
        ({"levels": {"a": {"network": {"like": "x"}}}}, "methods.other.levels.a.network: like 'x'"),
    ],
)
def test_likeness_to_nothing_is_refused_by_name(other: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        levels(other=other)


def test_methods_that_are_like_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        levels(other={"levels": {"a": {"like": "third.b"}}}, third={"levels": {"b": {"like": "other.a"}}})
