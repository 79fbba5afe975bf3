"""What was made is current as long as the content of what it was made from is, whenever that was written."""

from __future__ import annotations

import datetime as dt

import pytest

from ecdctr_spark.methods.currency import Made, current, inputs, with_maturity

DAY = dt.date(2024, 3, 5)
DAYS = [DAY + dt.timedelta(offset) for offset in range(4)]
CHECKSUMS = {("ad", day): offset + 1 for offset, day in enumerate(DAYS)}


def chain(checksums: dict[tuple[str, dt.date], int] = CHECKSUMS) -> dict[str, Made]:
    """Three models, each of a day of ads and the model before it."""
    made: dict[str, Made] = {}
    for place, day in enumerate(DAYS[:3]):
        parents = (f"m{place - 1}",) if place else ()
        digests = {name: model.digest for name, model in made.items()}
        reads = (("ad", day),)
        made[f"m{place}"] = Made(reads, parents, inputs(reads, parents, checksums, digests), f"weights {place}")
    return made


def test_models_of_samples_that_are_as_they_were_are_current() -> None:
    assert current(chain(), CHECKSUMS) == {"m0", "m1", "m2"}
    assert current(chain(), CHECKSUMS | {("ad", DAYS[3]): 9, ("natural", DAY): 9}) == {"m0", "m1", "m2"}


@pytest.mark.parametrize(("place", "left"), [(0, set()), (1, {"m0"}), (2, {"m0", "m1"})])
def test_a_restated_day_outdates_its_model_and_all_made_from_it(place: int, left: set[str]) -> None:
    assert current(chain(), CHECKSUMS | {("ad", DAYS[place]): 99}) == left


def test_a_day_that_loses_its_samples_is_restated_and_one_that_never_had_any_is_not() -> None:
    assert current(chain(), {key: value for key, value in CHECKSUMS.items() if key[1] != DAYS[2]}) == {"m0", "m1"}
    without = {key: value for key, value in CHECKSUMS.items() if key[1] != DAYS[1]}
    assert current(chain(without), without | {("ad", DAYS[1]): 0}) == {"m0", "m1", "m2"}


def test_a_model_trained_again_to_the_same_weights_outdates_nothing_and_to_others_what_is_made_from_it() -> None:
    restated, made = CHECKSUMS | {("ad", DAYS[0]): 99}, chain()
    again = made["m0"]._replace(inputs=inputs(made["m0"].reads, (), restated, {}))
    assert current(made | {"m0": again}, restated) == {"m0", "m1", "m2"}
    assert current(made | {"m0": again._replace(digest="others")}, restated) == {"m0"}


def test_a_model_whose_parent_is_gone_is_not_current() -> None:
    made = chain()
    del made["m0"]
    assert current(made, CHECKSUMS) == set()


def test_a_model_of_a_version_that_recorded_nothing_is_current_while_its_parents_are() -> None:
    unknown = {name: model._replace(inputs=None, digest=None) for name, model in chain().items()}
    assert current(unknown, {}) == {"m0", "m1", "m2"}
    assert current(chain() | {"m2": unknown["m2"]}, CHECKSUMS | {("ad", DAYS[0]): 99}) == set()


def test_a_chain_of_any_length_is_followed() -> None:
    made = {f"m{n}": Made((), (f"m{n - 1}",) if n else (), None, None) for n in range(5000)}
    made["m0"] = made["m0"]._replace(inputs="of other samples")
    assert current(made, {}) == set()


def metric(date: dt.date | None, method: str = "ecdctr", domain: str = "ad") -> dict[str, object]:
    return {"date": date, "method": method, "domain": domain, "gauc": 0.5, "mature": None}


@pytest.mark.parametrize(
    ("built", "maturing", "mature"),
    [
        (DAYS[:3], 2, True),
        (DAYS[:2], 2, False),
        ([DAYS[0], DAYS[2]], 2, False),  # a day between whose logs may still come, with clicks of this one
        (DAYS[:1], 0, True),
        ([], 0, False),
        (DAYS[1:], 2, False),
    ],
)
def test_a_day_is_mature_once_all_days_are_built_in_which_its_rows_and_clicks_come(
    built: list[dt.date], maturing: int, mature: bool
) -> None:
    (row,) = with_maturity([metric(DAY)], built, dt.timedelta(maturing))
    assert row == metric(DAY) | {"mature": mature}


def test_all_days_together_are_mature_once_each_of_the_method_is() -> None:
    rows = [metric(None), metric(DAYS[0]), metric(DAYS[1]), metric(None, "ads_only"), metric(DAYS[0], "ads_only")]
    rated = with_maturity(rows, DAYS[:2], dt.timedelta(1))
    assert [row["mature"] for row in rated] == [False, True, False, True, True]
