"""Ratings as logs, on a small made-up fixture in the published file format."""

from __future__ import annotations

import hashlib

import pytest
from pyspark.sql import Row, SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.features.ingest import chosen, judged_impressions, judged_profiles
from ecdctr_spark.sources import SOURCES, TERMS, Raw, movielens
from ecdctr_spark.sources.values import Clock
from ecdctr_spark.tables.schemas import IMPRESSIONS, ITEMS, USERS

USERS_FILE = "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\n"
ITEMS_FILE = "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
RATINGS_FILE = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
OLD, NEW = range(1930, 1980), range(1990, 2000)


@pytest.fixture(scope="module")
def raw(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Raw:
    """Twenty users who rated sixty films, and one film whose title is all quotes and accents."""
    root = tmp_path_factory.mktemp("movielens")
    films = "".join(f"Film ({year})\tFilm\t{year}\tComedy Drama\r\n" for year in (*OLD, *NEW))
    ratings = "".join(
        f"u{user}\tFilm ({year})\t{1 + (user + year) % 5}\t{978300760 + user}\n"
        for user in range(20)
        for year in (*OLD, *NEW)
    )
    files = {
        "ml-1m.user": USERS_FILE + "".join(f"u{user}\t25\tF\t7\t0{user:04d}\n" for user in range(20)),
        "ml-1m.item": ITEMS_FILE + films + '"L\'été" d\'Amélie (2000)\t"L\'été"\t2000\tRomance\r\n',
        "ml-1m.inter": RATINGS_FILE + ratings + "u1\t\"L'été\" d'Amélie (2000)\t5\t978300760\n",
    }
    folder = root / "raw" / "movielens"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
        patch.setattr(movielens, "_SHA256", digests)
        return SOURCES["movielens"](spark, load_config(["movielens"], [f"storage.root={root}"]))


@pytest.fixture(scope="module")
def impressions(raw: Raw) -> list[Row]:
    return chosen(judged_impressions(raw.impressions, Clock(), "UTC"), IMPRESSIONS, ("event_time",)).collect()


def test_each_rating_is_an_impression_clicked_from_four_stars_on(impressions: list[Row]) -> None:
    assert len(impressions) == 20 * 60 + 1
    by_id = {row["event_id"]: row for row in impressions}
    stars = {f"u{user}|Film ({year})": 1 + (user + year) % 5 for user in range(20) for year in (*OLD, *NEW)}
    assert all(by_id[event]["clicked"] == (rating >= 4) for event, rating in stars.items())
    assert by_id["u0|Film (1930)"]["ds"].isoformat() == "2000-12-31"  # 978300760 seconds


def test_the_rating_is_in_no_column_that_a_feature_could_read(impressions: list[Row]) -> None:
    assert all(row["context"] == {} for row in impressions)


def test_some_ratings_of_some_newer_films_are_ads(impressions: list[Row]) -> None:
    ads = [row["item_id"] for row in impressions if row["domain"] == "ad"]
    assert all(int(item[-5:-1]) >= 1990 for item in ads)
    assert 0 < len(set(ads)) < len(NEW)
    shown = [row["item_id"] for row in impressions if row["domain"] == "natural"]
    assert set(ads) & set(shown)  # a promoted film is natural content too


def test_titles_keep_their_quotes_and_accents(raw: Raw, impressions: list[Row]) -> None:
    assert raw.items is not None
    item = chosen(judged_profiles(raw.items, "item_id", Clock()), ITEMS).where("item_id like '%Am%'").collect()[0]
    assert item["item_id"] == "\"L'été\" d'Amélie (2000)"
    assert item["attributes"] == {
        "title": '"L\'été"',
        "year": "2000",
        "decade": "2000s",
        "category": "Romance",
        "genres": "Romance",
    }
    assert item["item_id"] in {row["item_id"] for row in impressions}


def test_users_have_their_attributes_and_half_a_zip_code(raw: Raw) -> None:
    assert raw.users is not None
    users = chosen(judged_profiles(raw.users, "user_id", Clock()), USERS).collect()
    assert len(users) == 20
    assert users[0]["attributes"] == {"age": "25", "gender": "F", "occupation": "7", "zip3": "000"}


def test_the_source_s_terms_can_be_shown() -> None:
    assert "https://doi.org/10.1145/2827872" in TERMS["movielens"]
