"""make years judges what a night costs and leaves behind by what it was earlier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.years.__main__ import Seen, table

NIGHTS = 40


def nights(**growth: float) -> Iterator[Seen]:
    """Nights that are all alike, but for what grows by so much with each."""
    for night in range(NIGHTS):
        alike = dict.fromkeys(Seen._fields, 100.0) | {"process": 1}
        for name in ("files", "stored_mb", "logs_mb", "vocabulary"):
            alike[name] += night
        yield Seen(**(alike | {name: 100.0 + rise * night for name, rise in growth.items()}))  # type: ignore[arg-type]


def missed(seen: list[Seen]) -> set[str]:
    return {result.name.split(":")[0] for result in table(seen) if result.met is False}


def test_what_stays_the_same_or_grows_evenly_is_within_its_bounds() -> None:
    assert missed([*nights()]) == set()


@pytest.mark.parametrize("name", ["cpu_seconds", "temporary", "driver_mb", "jvm_mb"])
def test_what_should_stay_the_same_and_grows_is_beyond_its_bound(name: str) -> None:
    assert missed([*nights(**{name: 5.0})]) == {name}


@pytest.mark.parametrize("name", ["files", "stored_mb", "logs_mb", "vocabulary"])
def test_what_grows_ever_faster_is_beyond_its_bound(name: str) -> None:
    seen = [each._replace(**{name: night**2}) for night, each in enumerate(nights())]
    assert missed(seen) == {name}


def test_what_a_process_holds_is_compared_within_the_one_that_ran_most_nights() -> None:
    seen = [
        each._replace(process=number > 30, driver_mb=1000.0 * (number > 30)) for number, each in enumerate(nights())
    ]
    assert missed(seen) == set()
