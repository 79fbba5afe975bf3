"""A method is a list of levels that refer to each other in order; its clocks say when each is due."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ecdctr_spark
from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods import method
from ecdctr_spark.methods.method import Clock, Daily, Monthly, Weekly
from ecdctr_spark.settings.base import ConfigError, Settings
from tests.configured import FIRST_DAY

CLOCKS = [Daily(), Weekly(weekday=2), Monthly()]
some_day = st.dates(dt.date(1999, 1, 1), dt.date(2030, 1, 1))


def configured(*settings: str) -> Config:
    return load_config([], [FIRST_DAY, *settings])


@given(st.sampled_from(CLOCKS), some_day)
def test_a_clock_s_newest_date_is_the_last_on_which_it_strikes(clock: Clock, day: dt.date) -> None:
    newest = clock.newest(day)
    assert newest <= day
    assert clock.newest(newest) == newest
    between = [newest + dt.timedelta(days=later) for later in range(1, (day - newest).days + 1)]
    assert all(clock.newest(each) == newest for each in between)
    assert (day - newest).days < {"day": 1, "week": 7, "month": 31}[clock.every]


def test_what_a_method_is_made_of_is_a_value_that_nothing_changes() -> None:
    kinds = [kind for kind in vars(method).values() if isinstance(kind, type) and issubclass(kind, Settings)]
    assert {Daily, Weekly, Monthly} <= {*kinds}
    assert all(kind.__struct_config__.frozen for kind in kinds)


def test_clocks_strike_on_their_days() -> None:
    daily, weekly, monthly = CLOCKS
    assert daily.newest(dt.date(2000, 2, 29)) == dt.date(2000, 2, 29)
    assert weekly.newest(dt.date(2000, 3, 3)) == dt.date(2000, 3, 1)  # a Wednesday
    assert monthly.newest(dt.date(2000, 3, 30)) == dt.date(2000, 2, 29)
    assert monthly.newest(dt.date(2000, 12, 31)) == dt.date(2000, 12, 31)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("serves=apm", "methods.ecdctr: serves is apm, which is no level; expected one of tpm, cpm, actr"),
        ("levels.cpm.memory.of=actr", "level cpm refers to actr, which is not before it; those are tpm"),
        ("levels.tpm.keeps=[]", "level cpm has a memory of tpm, which keeps no snapshot"),
        ("levels.cpm.memory=null", "level actr: a merged memory needs a start from a level that has a memory"),
        (
            "levels.cpm.teacher={level: tpm, share: 0.5, max_age_days: 40}",
            "level cpm: its teacher tpm reads other features",
        ),
        ("levels.cpm.reads.domains.natural=0", "domains.natural has weight 0.0: give one above 0"),
        ("levels.cpm.reads.domains={video: 1.0}", "levels.cpm.reads.domains.video"),
        ("levels.cpm.clock.every=year", "levels.cpm.clock"),
        ("levels.cpm.trian.epochs=2", "unknown key methods.ecdctr.levels.cpm.trian; the nearest known one is train"),
        (
            "levels.cpm.train.epoch=2",
            "unknown key methods.ecdctr.levels.cpm.train.epoch; the nearest known one is epochs",
        ),
    ],
)
def test_a_method_that_makes_no_sense_is_refused_by_the_key_at_fault(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        configured(f"methods.ecdctr.{setting}")


def test_a_level_names_the_levels_that_it_is_made_from() -> None:
    levels = configured().methods["ecdctr"].levels
    assert {name: level.refers_to for name, level in levels.items()} == {
        "tpm": (),
        "cpm": ("tpm",),
        "actr": ("cpm", "tpm"),
    }


def test_no_level_is_known_by_its_name_in_the_package() -> None:
    """Code that knows a level by its name cannot work for another method: names belong to conf/ and to texts."""
    package = Path(ecdctr_spark.__file__).parent
    named = re.compile(r"""(["'])(tpm|cpm|actr|ads_only)\1|\b(tpm|cpm|actr|ads_only)\b(?=\s*[=:(.\[])""")
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        for line in without_texts(path.read_text(encoding="utf-8")).splitlines()
        if named.search(line)
    ]
    assert not found


def without_texts(source: str) -> str:
    """Source without docstrings and comments."""
    return re.sub(r"#.*", "", re.sub(r'""".*?"""', "", source, flags=re.DOTALL))
