"""The health of a day's data before anything is trained on them: one row per measure, with a verdict.

Measured for each day and domain: `impressions` (0 is a gap) and `click_rate`; for ads, the share whose user or item
natural content has shown lately (`known_users`, `known_items`); for each feature with tokens, `null_rate` and
`unknown_rate` (out of vocabulary); for each number, `null_rate`; for each feature that is an index, `drift` against the
week before. Measured for the logs as a whole: the shares `quarantined` by day and `duplicates` by ingest.

A function here returns rows of (ds, domain, measure, feature, value, rows). Shares and rates run from 0 to 1; `rows` is
the number of rows that were measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.config import Check, Config, Limits, Sampling
from ecdctr_spark.features.columns import day_of, is_number, when_known
from ecdctr_spark.features.counters import counter, daily_counts, with_counts
from ecdctr_spark.features.past import asked, with_known
from ecdctr_spark.features.sampling import clicked_that_day, keep_rate
from ecdctr_spark.features.vocabulary import Vocabulary
from ecdctr_spark.settings.features import Count, Features, Number

WEEK = 7
_BUCKETS = 20
_COLUMNS = ("ds", "domain", "measure", "feature", "value", "rows")
_ALL = "all"
_NULL_ROWS = 20  # that are all null: no chance, but a source that is misspelled or missing


def traffic(labelled: DataFrame, first: str, last: str) -> DataFrame:
    """Impressions and click rate of each domain and day first..last (ISO dates), days without rows included."""
    days = labelled.sparkSession.range(1).select(
        F.explode(F.sequence(F.lit(first).cast("date"), F.lit(last).cast("date"))).alias("ds")
    )
    asked = days.select("ds", F.explode(F.array(F.lit("natural"), F.lit("ad"))).alias("domain"))
    counted = labelled.groupBy("ds", "domain").agg(F.count("label").alias("rows"), F.avg("label").alias("rate"))
    found = asked.join(counted, ["ds", "domain"], how="left").fillna(0, ["rows"])  # once in counted
    measures = F.inline(
        F.array(
            F.struct(F.lit("impressions").alias("measure"), F.col("rows").cast("double").alias("value")),
            F.struct(F.lit("click_rate").alias("measure"), F.col("rate").alias("value")),
        )
    )
    return _measured(found.select("ds", "domain", "rows", measures).where("value is not null"))


def known(labelled: DataFrame, history: DataFrame, config: Config) -> DataFrame:
    """The share of ad impressions whose user, and whose item, natural content showed in the check.known_days days
    before.

    `history` holds the labelled rows of those days too. The first day of natural content has no day before it and is
    left out.
    """
    natural = when_known(history.where("domain = 'natural'"), config.calendar.timezone, 0)
    seen = daily_counts(natural, ("user_id", "item_id"))
    shown = [_shown(f"known_{name}s", f"{name}_id", config.check.known_days) for name in ("user", "item")]
    counted = ads = labelled.where("domain = 'ad'")
    for count in shown:
        who = asked(ads, count.entity, config.features.hot_rows)
        counted = with_known(counted, count.entity, who, with_counts(who, seen, count.entity, [count]))
    shares = [F.avg((counter(count, counted.columns) > 0).cast("double")).alias(count.name) for count in shown]
    begin = history.where("domain = 'natural'").agg(F.min("ds").alias("begin"))
    later = counted.crossJoin(F.broadcast(begin)).where("ds > begin")
    found = later.groupBy("ds", "domain").agg(F.count("label").alias("rows"), *shares)
    return _measured(found.unpivot(["ds", "domain", "rows"], [count.name for count in shown], "measure", "value"))


def null_numbers(labelled: DataFrame, numbers: Sequence[Number]) -> DataFrame:
    """Null rate of each of the numbers, of which there is one or more, by day and domain. Samples cannot show it: null
    is 0 there."""
    rates = [F.avg(1 - is_number(number.source).cast("int")).alias(number.name) for number in numbers]
    found = labelled.groupBy("ds", "domain").agg(F.count("label").alias("rows"), *rates)
    long = found.unpivot(["ds", "domain", "rows"], [number.name for number in numbers], "feature", "value")
    return _measured(long.withColumn("measure", F.lit("null_rate")))


def encoded(samples: DataFrame, vocabulary: Vocabulary, features: Features) -> DataFrame:
    """Null rate and unknown rate of each feature with tokens, and drift of each that is an index, by day and domain.

    `samples` reaches one week further back than the days to measure. Rows count by their weight. Drift is the
    population stability index of the feature's values, hashed into 20 buckets, against the seven days before, less the
    index to expect of as many draws from one distribution: (buckets - 1)(1/n + 1/m). Users and items come and go, so
    their drift is not measured. Neither is a day without samples seven days before it, since counters start at zero
    where the logs start.
    """
    values = [_value(feature.name, vocabulary) for feature in features.fields if feature.role == "index"]
    long = samples.select("ds", "domain", "weight", F.inline(F.array(*values)))
    sums = [F.sum(F.when(F.col("bucket") == bucket, F.col("weight")).otherwise(0)) for bucket in range(_BUCKETS)]
    days = long.groupBy("ds", "domain", "feature").agg(
        F.count(F.lit(1)).alias("rows"),
        F.array(*sums).alias("today"),
        *(
            (F.sum(F.col("weight") * F.col(state)) / F.sum("weight")).alias(state)
            for state in ("null_rate", "unknown_rate")
        ),
    )
    week = Window.partitionBy("domain", "feature").orderBy(F.unix_date("ds")).rangeBetween(-WEEK, -1)
    before = F.array(*(F.sum(F.col("today")[bucket]).over(week) for bucket in range(_BUCKETS)))
    whole = F.min(F.unix_date("ds")).over(week) == F.unix_date("ds") - WEEK
    drifted = days.select(
        "*", before.alias("before"), F.sum("rows").over(week).alias("rows_before"), whole.alias("after_a_week")
    )
    rates = drifted.select("ds", "domain", "feature", "rows", "null_rate", "unknown_rate", _drift().alias("drift"))
    long = rates.unpivot(
        ["ds", "domain", "feature", "rows"], ["null_rate", "unknown_rate", "drift"], "measure", "value"
    )
    return _measured(long.where("value is not null"))


def sampled(labelled: DataFrame, samples: DataFrame, sampling: Sampling, timezone: str) -> DataFrame:
    """The share of impressions that became samples, and the share to expect by `sampling`, by day, domain and whether
    they were clicked on their day (the feature is clicked or unclicked)."""
    now, then = clicked_that_day(timezone), (F.col("label") == 1) & (F.col("click_day") <= F.unix_date("ds"))
    key = ["ds", "domain", "feature"]
    expected = F.avg(keep_rate(sampling, now)).alias("expected_keep_rate")
    shown = labelled.select("*", _clicked(now)).groupBy(key).agg(F.count("ds").alias("rows"), expected)
    kept = samples.select("*", _clicked(then)).groupBy(key).agg(F.count("ds").alias("kept"))
    both = shown.join(kept, key, how="left").fillna(0, ["kept"])  # once in kept
    rates = both.withColumn("keep_rate", F.col("kept") / F.col("rows"))
    values = rates.select(*key, "rows", "keep_rate", "expected_keep_rate")
    return _measured(values.unpivot([*key, "rows"], ["keep_rate", "expected_keep_rate"], "measure", "value"))


def grown(vocabulary: DataFrame, first: str, last: str, timezone: str) -> DataFrame:
    """The number of tokens of each id feature at the end of each day first..last, and how many are new that day."""
    tokens = vocabulary.where("kind = 'token'").withColumnRenamed("field", "feature")
    days = F.explode(F.sequence(F.lit(first).cast("date"), F.lit(last).cast("date"))).alias("ds")
    asked = tokens.select("feature").distinct().select("feature", days, F.lit(0).alias("new"))
    came = tokens.select("feature", day_of("since", timezone).alias("ds"), F.lit(1).alias("new"))
    both = came.unionByName(asked).groupBy("feature", "ds").agg(F.sum("new").alias("new_tokens"))
    until = Window.partitionBy("feature").orderBy("ds").rowsBetween(Window.unboundedPreceding, 0)
    totals = both.withColumn("tokens", F.sum("new_tokens").over(until)).where(F.col("ds") >= first)
    values = [F.col(name).cast("double").alias(name) for name in ("tokens", "new_tokens")]
    named = totals.select("ds", F.lit(_ALL).alias("domain"), "feature", F.col("tokens").alias("rows"), *values)
    return _measured(named.unpivot(["ds", "domain", "feature", "rows"], ["tokens", "new_tokens"], "measure", "value"))


def logged(labelled: DataFrame, quarantine: DataFrame, ingests: DataFrame) -> DataFrame:
    """The share of each day's raw impressions that is in quarantine, and the share of duplicates in each ingest (rows
    of STEPS), dated by the last day that it read."""
    good = labelled.groupBy("ds").agg(F.count("label").alias("good"))
    bad = quarantine.where("source = 'impressions'").groupBy("ds").agg(F.count("reason").alias("bad"))
    both = good.join(bad, "ds", how="left").fillna(0, ["bad"])  # a day is once in bad
    rows = F.col("good") + F.col("bad")
    days = both.select(
        "ds", rows.alias("rows"), F.lit("quarantined").alias("measure"), (F.col("bad") / rows).alias("value")
    )
    read = ingests.where("rows_read > 0").select(
        F.col("to_day").alias("ds"),
        F.col("rows_read").alias("rows"),
        F.lit("duplicates").alias("measure"),
        (F.col("duplicates") / F.col("rows_read")).alias("value"),
    )
    return _measured(days.unionByName(read).withColumn("domain", F.lit(_ALL)))


def judged(measures: DataFrame, check: Check) -> DataFrame:
    """The measures with their limits `low` and `high`, null for none, and the verdict `ok`; null where there are too
    few rows to judge by. These are fewer than check.least_rows; for a feature that is null in each of them, fewer than
    20. Impressions are always judged."""
    low, high = (_limit(check.limits, end) for end in ("low", "high"))
    all_null = (F.col("measure") == "null_rate") & (F.col("value") == 1)
    enough = F.when(all_null, F.least(F.lit(_NULL_ROWS), F.lit(check.least_rows))).otherwise(check.least_rows)
    judged = (F.col("rows") >= enough) | (F.col("measure") == "impressions")
    within = F.coalesce(F.col("value") >= F.col("low"), F.lit(True)) & F.coalesce(
        F.col("value") <= F.col("high"), F.lit(True)
    )
    limited = measures.select(*_COLUMNS, low.alias("low"), high.alias("high"))
    return limited.withColumn("ok", F.when(judged, within))


def _measured(frame: DataFrame) -> DataFrame:
    columns = [
        F.lit(None).cast("string").alias(name) if name not in frame.columns else F.col(name) for name in _COLUMNS
    ]
    return frame.select(*columns)


def _clicked(clicked: Column) -> Column:
    return F.when(clicked, "clicked").otherwise("unclicked").alias("feature")


def _shown(name: str, entity: str, days: int) -> Count:
    return Count(kind="count", name=name, entity=entity, domain="natural", measure="impressions", days=days)


def _value(name: str, vocabulary: Vocabulary) -> Column:
    """The feature's name, its bucket (null where drift is not measured), and whether the value is one of the null or
    the unknown rows (null where the feature reserves none)."""
    index = F.col(name)
    states = []
    for kind in ("null", "unknown"):
        block = vocabulary.survey.blocks.get((name, kind))
        is_one = index.between(block.first, block.first + block.rows - 1) if block else F.lit(None)
        states.append(is_one.cast("double").alias(f"{kind}_rate"))
    spread = F.pmod(F.xxhash64(index), F.lit(_BUCKETS)).cast("int")
    bucket = F.lit(None).cast("int") if name in ("user_id", "item_id") else spread
    return F.struct(F.lit(name).alias("feature"), bucket.alias("bucket"), *states)


def _drift() -> Column:
    """The sum over buckets of (p - q) ln(p / q), with half a row added to each bucket, less its expectation."""
    n, m = F.col("rows").cast("double"), F.col("rows_before").cast("double")
    today = F.aggregate("today", F.lit(0.0), lambda total, weight: total + weight)
    before = F.aggregate("before", F.lit(0.0), lambda total, weight: total + weight)

    def share(weight: Column, total: Column, rows: Column) -> Column:
        return (weight / total * rows + 0.5) / (rows + _BUCKETS / 2)

    def term(weight: Column, weight_before: Column) -> Column:
        p, q = share(weight, today, n), share(weight_before, before, m)
        return (p - q) * F.ln(p / q)

    terms = F.zip_with("today", "before", term)
    index = F.aggregate(terms, F.lit(0.0), lambda total, term: total + term) - (_BUCKETS - 1) * (1 / n + 1 / m)
    return F.when(F.col("after_a_week") & (today > 0) & (before > 0), F.greatest(index, F.lit(0.0)))


def _limit(limits: Limits, end: str) -> Column:
    given = [(name, getattr(getattr(limits, name), end)) for name in limits.__struct_fields__]
    return F.coalesce(*(F.when(F.col("measure") == name, F.lit(value).cast("double")) for name, value in given))
