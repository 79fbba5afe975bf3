"""The logs of a small platform, one folder per day, whose users and items come and go."""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.miniature import LEVELS

FIRST_DAY = dt.date(2021, 1, 1)
FIRST_NIGHT = dt.date(2021, 1, 6)  # the first day to predict: the first CPM is of a Monday
_USERS, _ITEMS, _EVENTS = 40, 30, 120  # on each day
_STAY_DAYS = 30  # after which a user or an item is another one
_EVICT_DAYS = _KEPT_DAYS = 90


def write_day(folder: Path, day: dt.date) -> None:
    """Impressions, with clicks inside, and the users and items of a day."""
    chance = random.Random(day.toordinal())
    age = (day - FIRST_DAY).days
    users, items = _names("user", _USERS, age), _names("item", _ITEMS, age)
    columns = ("event_id", "event_time", "domain", "user_id", "item_id", "clicked")
    _write(folder / "impressions" / f"{day}.csv", columns, _events(chance, day, users, items))
    genders = ((user, "fm"[hash_of(user) % 2]) for user in users)
    _write(folder / "users" / f"{day}.csv", ("user_id", "gender"), genders)
    categories = ((item, f"category-{hash_of(item) % 4}") for item in items)
    _write(folder / "items" / f"{day}.csv", ("item_id", "category"), categories)


def write_overlay(path: Path) -> None:
    """A configuration of its nights; the folder of the night is left to each command."""
    fields = {name: {"evict_days": _EVICT_DAYS} for name in ("user_id", "item_id")}
    settings = {
        "spark": {"driver_memory": "2g"},
        "storage": {"keep_days": 0, "keep_models_days": _KEPT_DAYS},
        "source": {"kind": "files", "format": "csv"},
        "calendar": {"first_day": str(FIRST_DAY)},
        "features": {"fields": fields},
        "training": {"launcher": "inline", "ranks": 1},
        "methods": {"ecdctr": {"levels": LEVELS}},
        "evaluation": {"methods": ["ecdctr"]},
        "tracking": {"system_metrics": False},
    }
    path.write_text(yaml.safe_dump(settings))


def hash_of(name: str) -> int:
    """A number of a name that is the same in each process."""
    return sum(name.encode())


def _names(kind: str, number: int, age: int) -> list[str]:
    """Those of a day: each stays for a while, and another one takes its place."""
    return [f"{kind}-{place}-{(age + place) // _STAY_DAYS}" for place in range(number)]


def _events(chance: random.Random, day: dt.date, users: list[str], items: list[str]) -> Iterator[tuple[object, ...]]:
    for number in range(_EVENTS):
        user, item = chance.choice(users), chance.choice(items)
        domain = "ad" if number % 4 == 0 else "natural"
        likes = 0.6 if hash_of(user) % 4 == hash_of(item) % 4 else 0.2
        at = f"{day}T{chance.randrange(8, 20):02d}:{chance.randrange(60):02d}:{number % 60:02d}"
        yield f"{day}-{number}", at, domain, user, item, int(chance.random() < likes)


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
