"""A platform's raw logs in miniature, written as a user would supply them, and an overlay that reads them."""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections.abc import Iterable
from pathlib import Path

import yaml

FIRST_DAY = dt.date(2024, 1, 30)
LAST_DAY = dt.date(2024, 3, 6)
PREDICTED = (dt.date(2024, 3, 5), dt.date(2024, 3, 6))
QUIET = range(2, 27)  # days after the first of which only every fourth has events: gaps must do no harm
USERS, ITEMS = 15, 20
LEVELS = {
    "tpm": {"train": {"batch_size": 256}},
    "cpm": {
        "reads": {"days": 7},
        "network": {"hidden": [16], "attention_hidden": [8], "cross_layers": 1, "dimension": 8},
        "train": {"batch_size": 256},
    },
    "actr": {"reads": {"days": 5}, "train": {"batch_size": 64}},
}


def write_logs(folder: Path) -> None:
    """Impressions (one of them twice, one without a user), clicks (one of no impression), users and items, as csv."""
    events = list(_events(random.Random(5)))
    bad = [
        (*events[0][:1], *events[0][1:]),
        ("nobody", "2024-01-30T10:00:00", "natural", "", "item-1", False),
    ]
    columns = ("event_id", "event_time", "domain", "user_id", "item_id")
    _write(folder / "impressions", columns, (event[:5] for event in [*events, *bad]))
    clicks = [(event[0], _later(event[1])) for event in events if event[5]]
    _write(folder / "clicks", ("event_id", "click_time"), [*clicks, ("unheard-of", "2024-01-30T10:00:00")])
    users = ((f"user-{user}", "fm"[user % 2]) for user in range(USERS))
    _write(folder / "users", ("user_id", "gender"), users)
    items = ((f"item-{item}", f"category-{item % 4}") for item in range(ITEMS))
    _write(folder / "items", ("item_id", "category"), items)


def write_overlay(path: Path, logs: Path) -> None:
    """A configuration that reads those logs, small enough for a test; storage.root is left to each command."""
    source = {name: str(logs / name) for name in ("impressions", "clicks", "users", "items")}
    settings = {
        "source": {"kind": "files", "format": "csv", **source},
        "calendar": {"first_day": str(FIRST_DAY)},
        "samples": {"files_per_slice": 2},
        "training": {"ranks": 2},  # auto would take one for so few rows
        "methods": {"ecdctr": {"levels": LEVELS}, "ads_only": {"levels": {"ads_only": {"starts_on": "2024-03-04"}}}},
        "evaluation": {"bootstrap": 50},
    }
    path.write_text(yaml.safe_dump(settings))


def _events(chance: random.Random) -> Iterable[tuple[str, str, str, str, str, bool]]:
    for offset in range((LAST_DAY - FIRST_DAY).days + 1):
        if offset in QUIET and offset % 4:
            continue
        day = FIRST_DAY + dt.timedelta(days=offset)
        for number in range(160):
            user, item = chance.randrange(USERS), chance.randrange(ITEMS)
            domain = "ad" if number % 4 == 0 else "natural"
            likes = 0.6 if user % 4 == item % 4 else 0.2
            at = f"{day}T{chance.randrange(8, 20):02d}:{chance.randrange(60):02d}:{number % 60:02d}"
            clicked = chance.random() < (likes / 2 if domain == "ad" else likes)
            yield f"{day}-{number}", at, domain, f"user-{user}", f"item-{item}", clicked


def _later(time: str) -> str:
    return (dt.datetime.fromisoformat(time) + dt.timedelta(minutes=1)).isoformat()


def _write(folder: Path, columns: tuple[str, ...], rows: Iterable[Iterable[str]]) -> None:
    folder.mkdir(parents=True)
    with (folder / "part.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
