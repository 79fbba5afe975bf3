"""A synthetic platform is what its settings say, and the same however it is computed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.features.ingest import chosen, judged_clicks, judged_impressions, of_impressions
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import Synthetic
from ecdctr_spark.sources import SOURCES, Raw
from ecdctr_spark.sources.raw import FRAMES
from ecdctr_spark.sources.synthetic import numbered_events, oracle, raw, with_probability
from ecdctr_spark.sources.values import Clock
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import IMPRESSIONS, ORACLE
from ecdctr_spark.tables.store import Store
from tests.configured import FIRST_DAY

PRESETS = ("drifting", "seasonal", "cold_start", "unrelated")
SMALL = ["synthetic.days=40", "synthetic.impressions_per_day=500", "synthetic.users=300", "synthetic.items=100"]


@pytest.fixture(scope="module")
def configured() -> Config:
    noisy = ["synthetic.duplicates=0.02", "synthetic.malformed=0.03", "synthetic.ad_share=0.2", "synthetic.births=0.02"]
    return load_config(["synthetic"], [*SMALL, *noisy])


@pytest.fixture(scope="module")
def platform(configured: Config) -> Synthetic:
    assert configured.synthetic is not None
    return configured.synthetic


@pytest.fixture(scope="module")
def logs(spark: SparkSession, configured: Config, platform: Synthetic) -> Raw:
    frames = raw(spark, platform, configured.calendar.first_day, numbered_events(spark, platform, 0, platform.events))
    return Raw(*(frame.cache() for frame in frames[: len(FRAMES)]))


@pytest.fixture(scope="module")
def truth(spark: SparkSession, platform: Synthetic) -> list[Row]:
    return oracle(numbered_events(spark, platform, 0, platform.events), platform).collect()


def altered(platform: Synthetic, **settings: float) -> Synthetic:
    return replace(platform, **settings)


def events_of(frame: DataFrame) -> list[tuple[object, ...]]:
    return sorted((tuple(row) for row in frame.collect()), key=str)


def test_parts_make_the_whole_whatever_the_partitioning(
    spark: SparkSession, configured: Config, platform: Synthetic, logs: Raw
) -> None:
    first_day, cut = configured.calendar.first_day, platform.events // 3
    parts = [
        raw(spark, platform, first_day, numbered_events(spark, platform, first, last).repartition(7))
        for first, last in ((0, cut), (cut, platform.events))
    ]
    for name in ("impressions", "clicks"):
        whole = events_of(getattr(logs, name))
        assert sorted(events_of(getattr(parts[0], name)) + events_of(getattr(parts[1], name)), key=str) == whole


def test_another_seed_is_another_platform(spark: SparkSession, platform: Synthetic, truth: list[Row]) -> None:
    other = oracle(numbered_events(spark, platform, 0, 50), altered(platform, seed=2)).collect()
    assert {row.probability for row in other}.isdisjoint(row.probability for row in truth)


def test_malformed_rows_are_quarantined_and_twins_counted_at_the_rate_that_was_set(
    platform: Synthetic, logs: Raw
) -> None:
    judged = judged_impressions(logs.impressions, Clock(), "UTC")
    verdicts = {row.reason: row["count"] for row in judged.groupBy("reason").count().collect()}
    good = verdicts.pop(None)
    assert set(verdicts) == {
        "event_time cannot be read as a time",
        "domain is neither natural nor ad",
        "user_id is missing",
    }
    duplicates = good - chosen(judged, IMPRESSIONS, ("event_time",)).count()
    assert duplicates / platform.events == pytest.approx(0.02, abs=0.004)
    assert sum(verdicts.values()) / platform.events == pytest.approx(0.03, abs=0.006)


def test_ads_are_as_frequent_as_set_and_clicked_less(platform: Synthetic, truth: list[Row]) -> None:
    ads = [row for row in truth if row.domain == "ad"]
    natural = [row for row in truth if row.domain == "natural"]
    assert len(ads) / platform.events == pytest.approx(platform.ad_share, abs=0.01)
    assert 0 < mean(row.clicked for row in ads) < 0.6 * mean(row.clicked for row in natural)


def test_clicks_come_with_the_oracle_s_probability(truth: list[Row]) -> None:
    by_probability = sorted(truth, key=lambda row: row.probability)
    tenth = len(truth) // 10
    for start in range(0, 10 * tenth, tenth):
        rows = by_probability[start : start + tenth]
        expected = mean(row.probability for row in rows)
        assert mean(row.clicked for row in rows) == pytest.approx(expected, abs=4 * (expected / tenth) ** 0.5)


def test_late_clicks_are_as_many_as_set(platform: Synthetic, logs: Raw) -> None:
    assert logs.clicks is not None
    shown = chosen(judged_impressions(logs.impressions, Clock(), "UTC"), IMPRESSIONS, ("event_time",))
    waited = F.col("click_time").cast("long") - F.col("event_time").cast("long")
    pairs = logs.clicks.join(shown, "event_id", how="inner").select(waited.alias("seconds")).collect()
    late = [pair.seconds >= 3600 for pair in pairs]
    assert mean(late) == pytest.approx(platform.late_clicks, abs=0.015)
    assert max(pair.seconds for pair in pairs) > 24 * 3600  # beyond the attribution window
    clicks = of_impressions(judged_clicks(logs.clicks, Clock(), "UTC"), shown)
    assert clicks.where("reason is null").count() == len(pairs)


def test_no_one_occurs_before_the_first_day_and_the_newest_do(logs: Raw) -> None:
    assert logs.users is not None and logs.items is not None
    shown = chosen(judged_impressions(logs.impressions, Clock(), "UTC"), IMPRESSIONS, ("event_time",))
    for profiles, key in ((logs.users, "user_id"), (logs.items, "item_id")):
        born = profiles.groupBy(key).agg(F.min("valid_from").alias("born"))
        met = shown.join(born, key, how="left").select("event_time", "born").collect()
        assert all(row.born <= row.event_time for row in met)
        assert max(row.born for row in met) > min(row.event_time for row in met)


def test_few_users_have_most_of_the_events(logs: Raw, platform: Synthetic) -> None:
    counts = sorted((row["count"] for row in logs.impressions.groupBy("user_id").count().collect()), reverse=True)
    tenth = len(counts) // 10
    assert sum(counts[:tenth]) > 2.5 * sum(counts) / 10


def test_most_traffic_is_in_the_evening(logs: Raw) -> None:
    hours = [row[0] for row in logs.impressions.select(F.hour("event_time")).collect()]
    assert sum(17 <= hour < 20 for hour in hours if hour) > 4 * sum(5 <= hour < 8 for hour in hours if hour)


def tastes(spark: SparkSession, platform: Synthetic, day: int, domain: str) -> dict[tuple[int, int], float]:
    """The logit of each user for each item, of what the settings leave."""
    pairs = spark.range(40).crossJoin(spark.range(50).withColumnRenamed("id", "item")).withColumnRenamed("id", "user")
    met = pairs.selectExpr("user", "item", "0L n", f"{day}L day", "0 second", "0L position", f"'{domain}' domain")
    rows = (
        with_probability(met, platform).select("user", "item", F.expr("ln(probability / (1 - probability))")).collect()
    )
    return {(row[0], row[1]): row[2] for row in rows}


def correlation(some: dict[tuple[int, int], float], others: dict[tuple[int, int], float]) -> float:
    mean_x, mean_y = mean(some.values()), mean(others.values())
    covariance = mean((some[pair] - mean_x) * (others[pair] - mean_y) for pair in some)
    spread = mean((x - mean_x) ** 2 for x in some.values()) * mean((y - mean_y) ** 2 for y in others.values())
    return covariance / spread**0.5


@pytest.mark.parametrize("wanted", [0.0, 0.6, 1.0])
def test_taste_in_ads_correlates_with_natural_taste_as_set(
    spark: SparkSession, platform: Synthetic, wanted: float
) -> None:
    alone = altered(platform, correlation=wanted, quality=0.0, weekly=0.0, seasonal=0.0)
    found = correlation(tastes(spark, alone, 3, "natural"), tastes(spark, alone, 3, "ad"))
    assert found == pytest.approx(wanted, abs=0.12)


def test_taste_drifts_away_within_the_days_set(spark: SparkSession, platform: Synthetic) -> None:
    drifting = altered(platform, drift_days=100, quality=0.0, weekly=0.0, seasonal=0.0)
    first, soon, late = (tastes(spark, drifting, day, "natural") for day in (0, 10, 100))
    assert correlation(first, soon) > 0.95
    assert abs(correlation(first, late)) < 0.15


def test_a_season_s_interests_return_with_it(spark: SparkSession, platform: Synthetic) -> None:
    seasonal = altered(platform, taste=0.0, quality=0.0, weekly=0.0, seasonal=1.0, season_days=30)
    first, next_, again = (tastes(spark, seasonal, day, "natural") for day in (5, 35, 5 + 4 * 30))
    assert correlation(first, again) > 0.99
    assert abs(correlation(first, next_)) < 0.15


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_different_platform(preset: str) -> None:
    plain, changed = load_config(["synthetic"]), load_config(["synthetic", preset])
    assert changed.synthetic is not None
    assert changed.synthetic != plain.synthetic
    assert changed.storage.root != plain.storage.root
    small = load_config(["synthetic", preset, "small"]).synthetic
    assert small is not None and small.events < changed.synthetic.events / 10


def test_unrelated_ads_have_no_taste_of_natural_content() -> None:
    unrelated = load_config(["synthetic", "unrelated"]).synthetic
    assert unrelated is not None and unrelated.correlation == 0


def test_a_platform_is_written_once_with_its_oracle_beside_the_tables(spark: SparkSession, tmp_path: Path) -> None:
    config = load_config(["synthetic"], [*SMALL, "synthetic.days=2", f"storage.root={tmp_path}"])
    first = SOURCES["synthetic"](spark, config)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "raw").rglob("*.parquet")}
    again = SOURCES["synthetic"](spark, config)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "raw").rglob("*.parquet")} == written
    assert again.impressions.count() == first.impressions.count() >= 1000
    truth = Store(Session.of(spark), Root.parse(tmp_path), config.logs_id).read(ORACLE)
    assert truth.count() == 1000
    assert again.clicks is not None
    assert truth.where("clicked").count() == again.clicks.count()


def test_a_platform_without_settings_is_refused(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="add --conf synthetic"):
        SOURCES["synthetic"](spark, load_config([], [FIRST_DAY, "source.kind=synthetic"]))


def mean(values: Iterable[float]) -> float:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)
