"""Each kind of limit is held, and what is wrong is said with the setting's key, its value and what was expected."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pytest
from msgspec import Meta
from msgspec.structs import replace

from ecdctr_spark.settings.base import (
    NotNegative,
    Positive,
    PositiveNumber,
    PositiveShare,
    SettingError,
    Settings,
    Share,
    about,
    parsed,
    plain,
)


class Round(Settings, frozen=True, tag_field="shape", tag="round"):
    shape: ClassVar[str] = "round"
    radius: Positive


class Square(Settings, frozen=True, tag_field="shape", tag="square"):
    shape: ClassVar[str] = "square"
    side: PositiveNumber = 1.0


class Node(Settings, frozen=True, kw_only=True):
    whole: int = 1
    positive: Annotated[Positive | None, about("why")] = None
    least: NotNegative = 0
    between: Annotated[int, Meta(gt=1, lt=5)] = 2
    share: Share = 0.5
    some: PositiveShare = 0.5
    number: float = 0.0
    text: str = ""
    letter: Annotated[str, Meta(min_length=1, max_length=1)] = "a"
    maybe: Annotated[str | None, about("why")] = None
    word: Annotated[str, Meta(pattern=r"^[a-z]+\Z")] = "a"
    day: dt.date | None = None
    switch: bool = False
    choice: Literal["b", "a"] = "a"
    names: Annotated[tuple[str, ...], Meta(min_length=1)] = ("a",)
    weights: Mapping[Literal["b", "a"], float] = {}
    shape: Round | Square = Square()
    shapes: Mapping[str, Round | Square] = {}
    listed: tuple[Round | Square, ...] = ()

    def __post_init__(self) -> None:
        if self.text == "loud":
            raise SettingError("text: 'loud' is too loud")
        if self.text == self.word:
            raise ValueError(f"text and word are both {self.text}")


class Whole(Settings, frozen=True):
    node: Node = Node()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"whole": "x"}, "whole: 'x' is no whole number: give one, such as 2"),
        ({"whole": 1.5}, "whole: 1.5 is no whole number: give one, such as 2"),
        ({"whole": True}, "whole: True is no whole number: give one, such as 2"),
        ({"whole": None}, "whole: null is no whole number: give one, such as 2"),
        ({"positive": 0}, "positive: 0 is too small: expected more than 0"),
        ({"least": -1}, "least: -1 is too small: expected at least 0"),
        ({"between": 1}, "between: 1 is too small: expected more than 1"),
        ({"between": 5}, "between: 5 is too large: expected less than 5"),
        ({"share": 2}, "share: 2 is too large: expected at most 1.0"),
        ({"share": -0.5}, "share: -0.5 is too small: expected at least 0.0"),
        ({"some": 0}, "some: 0 is too small: expected more than 0.0"),
        ({"number": "x"}, "number: 'x' is no number: give one, such as 0.5"),
        ({"number": float("nan")}, "number: nan is no finite number: give one, such as 0.5"),
        ({"number": float("inf")}, "number: inf is no finite number: give one, such as 0.5"),
        ({"weights": {"a": "-inf"}}, "weights.a: -inf is no finite number: give one, such as 0.5"),
        ({"text": 3}, "text: 3 is no text: give one, in quotes if it looks like a number"),
        ({"letter": ""}, "letter: '' is empty: give at least 1 character"),
        ({"letter": "ab"}, "letter: 'ab' is too long: give at most 1 character"),
        ({"maybe": 3}, "maybe: 3 is no text: give one, in quotes if it looks like a number"),
        ({"word": "a1"}, "word: 'a1' is not of the form ^[a-z]+$"),
        ({"word": "a\n"}, "word: 'a\\n' is not of the form ^[a-z]+$"),
        ({"day": "2024-13-01"}, "day: '2024-13-01' is no day: give one as YYYY-MM-DD"),
        ({"switch": "maybe"}, "switch: 'maybe' is neither true nor false: give one of them"),
        ({"choice": "c"}, "choice: 'c' is unknown: expected 'b' or 'a'"),
        ({"names": "a"}, "names: 'a' is no list: give one, such as [a, b]"),
        ({"names": []}, "names: [] is empty: give at least 1"),
        ({"names": ["a", 3]}, "names.1: 3 is no text: give one, in quotes if it looks like a number"),
        ({"weights": [1]}, "weights: [1] is no mapping: give its keys, such as {key: value}"),
        ({"weights": {"c": 1}}, "weights.c: 'c' is unknown: expected 'b' or 'a'"),
        ({"weights": {"a": "x"}}, "weights.a: 'x' is no number: give one, such as 0.5"),
        ({"shape": 3}, "shape: 3 is no mapping: give its keys, such as {key: value}"),
        ({"shape": {"radius": 1}}, "shape: {'radius': 1} is incomplete: set its key 'shape'"),
        ({"shape": {"shape": "x"}}, "shape: {'shape': 'x'} is unknown: expected one of 'round', 'square'"),
        ({"shape": {"shape": "round"}}, "shape.radius: is missing: set it"),
        ({"shape": {"shape": "round", "radius": 0}}, "shape.radius: 0 is too small: expected more than 0"),
        ({"shapes": {"x": {"shape": "square", "side": 0}}}, "shapes.x.side: 0 is too small: expected more than 0.0"),
        ({"listed": [{"shape": "round"}]}, "listed.0.radius: is missing: set it"),
        ({"text": "loud"}, "text: 'loud' is too loud"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key_value_and_what_is_expected(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError) as refused:
        parsed(Whole, {"node": given})
    assert str(refused.value) == f"node.{said}"
    with pytest.raises(SettingError) as refused:
        parsed(Node, given, "above.node")
    assert str(refused.value) == f"above.node.{said}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nod": {}}, "unknown key nod; the nearest known one is node"),
        ({"node": {"positve": 1}}, "unknown key node.positve; the nearest known one is positive"),
        (
            {"node": {"shapes": {"mine": {"shape": "round", "radus": 1}}}},
            "unknown key node.shapes.mine.radus; the nearest known one is radius",
        ),
        ({"node": {"text": "a", "word": "a"}}, "node: text and word are both a"),
        ({"node": 3}, "node: 3 is no mapping: give its keys, such as {key: value}"),
    ],
)
def test_unknown_keys_and_settings_that_exclude_each_other_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError) as refused:
        parsed(Whole, given)
    assert str(refused.value) == said


def test_what_is_given_becomes_what_is_declared() -> None:
    node = parsed(Node, {"number": 1, "share": "0.25", "whole": "3", "day": "2024-02-29", "names": ["a", "b"]})
    assert (type(node.number), node.share, node.whole) == (float, 0.25, 3)
    assert (node.day, node.names) == (dt.date(2024, 2, 29), ("a", "b"))
    assert parsed(Node, {"day": dt.date(2024, 2, 29)}).day == node.day


def test_a_node_is_dumped_as_json_has_it_and_is_read_again() -> None:
    node = parsed(Node, {"day": "2024-02-29", "shape": {"shape": "round", "radius": 2}, "weights": {"a": 1}})
    dumped = plain(node)
    assert (dumped["day"], dumped["names"], dumped["weights"]) == ("2024-02-29", ["a"], {"a": 1.0})
    assert dumped["shape"] == {"shape": "round", "radius": 2}
    assert parsed(Node, dumped) == node == pickle.loads(pickle.dumps(node))  # noqa: S301
    assert plain(node, "day", "text").keys() == dumped.keys() - {"day", "text"}


def test_a_node_never_changes_and_checks_itself_wherever_it_is_made() -> None:
    node = Node()
    with pytest.raises(AttributeError):
        node.text = "quiet"  # type: ignore[misc]
    with pytest.raises(ValueError, match="both a"):
        Node(text="a")
    assert (replace(node, text="b").text, node.text) == ("b", "")
