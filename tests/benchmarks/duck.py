"""The features of conf/synthetic.yaml in DuckDB, all at once from raw logs: what one would write for a single machine.
Nothing is kept from one day to the next, and a token has a row of the embedding from the start.

Tests hold the pipeline's features against these, and the benchmark its cost.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from ecdctr_spark.settings.features import Behaviours, Count, Features, Rate

LONGEST = 90  # days that a feature looks back at most
_DAY = 86_400_000_000  # microseconds; also the longest time from an impression to a click of it
_EPOCH = dt.date(1970, 1, 1)


def build(raw: Path, output: Path, features: Features, first: dt.date, last: dt.date) -> None:
    """Writes the samples of the days first..last, a Parquet folder for each domain and day, by raw logs of these days
    and the LONGEST before them. Half of the natural impressions without a click are left out, by hash. A behaviour is a
    list of tokens."""
    days = [(day - _EPOCH).days for day in (first, last)]
    with duckdb.connect(config={"threads": 2, "memory_limit": "8GB"}) as database:
        database.execute(_labelled(raw, days[0] - LONGEST, days[1]))
        for entity in entities(features):
            database.execute(_days(entity, [feature for feature in features.counters if feature.entity == entity]))
        for feature in features.ids:
            name, source = feature.name, column_of(feature.source)
            database.execute(
                f"create table {name}_rows as select token, row_number() over (order by token) as row"
                f" from (select distinct {source} as token from labelled where {source} is not null)"
            )
        output.mkdir(parents=True)
        samples = _samples(features, days[0], days[1])
        database.execute(f"copy ({samples}) to '{output}' (format parquet, partition_by (domain, day))")


def _labelled(raw: Path, first: int, last: int) -> str:
    """Good impressions, each event once, with the first click within a day, and the profiles that applied then."""
    return f"""
        create table labelled as
        with shown as (
            select distinct on (event_id) *, epoch_us(event_time) as shown_at, epoch_us(event_time) // {_DAY} as day
            from '{raw}/impressions/*.parquet'
            where event_time is not null and domain in ('natural', 'ad') and user_id is not null
        ), clicks as (
            select event_id, min(epoch_us(click_time)) as clicked_at from '{raw}/clicks/*.parquet'
            where epoch_us(click_time) // {_DAY} <= {last} group by event_id
        ), attributed as (
            select shown.*, case when clicked_at between shown_at and shown_at + {_DAY} then clicked_at end as clicked
            from shown left join clicks using (event_id) where day between {first} and {last}
        ), users as (from '{raw}/users/*.parquet'), items as (from '{raw}/items/*.parquet')
        select attributed.*, clicked // {_DAY} as click_day, age, region, category, advertiser
        from attributed
        asof left join users on attributed.user_id = users.user_id and attributed.event_time >= users.valid_from
        asof left join items on attributed.item_id = items.item_id and attributed.event_time >= items.valid_from"""


def _days(entity: str, features: Sequence[Count | Rate]) -> str:
    """A table of the entity's keys and days, with what each feature counts on the days before."""
    key = column_of(entity)
    amounts = dict.fromkeys(amount for feature in features for amount in _amounts(feature))
    totals = (
        f"count(*) filter (domain = '{domain}' and {event}) as {domain}_{measure}"
        for domain in ("natural", "ad")
        for measure, event in (("impressions", "not click"), ("clicks", "click"))
    )
    sums = (
        f"coalesce(sum({amount}) over (partition by key order by day range between {days} preceding and 1 preceding),"
        f" 0) as {amount}_{days}"
        for amount, days in amounts
    )
    return f"""
        create table {key}_days as
        with events as (
            select {key} as key, domain, day, false as click from labelled where {key} is not null
            union all
            select {key}, domain, click_day, true from labelled where {key} is not null and clicked is not null
        ), days as (select key, day, {", ".join(totals)} from events group by key, day)
        select key, day, {", ".join(sums)} from days"""


def _recent(feature: Behaviours) -> str:
    """The last natural clicks of each user before each day on which one was shown to."""
    return f"""(
        with days as (
            select user_id, click_day as day, list({column_of(feature.of)} order by clicked, event_id) as tokens
            from labelled where domain = 'natural' and clicked is not null group by user_id, click_day
        ), listed as (
            from (select distinct user_id, day from labelled) full join days using (user_id, day)
        ), before as (
            select user_id, day, list(tokens) filter (tokens is not null) over (
                partition by user_id order by day range between {feature.days} preceding and 1 preceding) as lists
            from listed
        )
        select user_id, day, flatten(lists)[-{feature.length}:] as {feature.name} from before)"""


def _samples(features: Features, first: int, last: int) -> str:
    made = [f"{one.name}_rows.row as {one.name}" for one in features.ids]
    made += map(_counter, features.counters)
    made += [f"coalesce({one.name}, []) as {one.name}" for one in features.behaviours]
    joins = [
        f"left join {one.name}_rows on labelled.{column_of(one.source)} = {one.name}_rows.token" for one in features.ids
    ]
    for entity in entities(features):
        table = f"{column_of(entity)}_days"
        joins.append(f"left join {table} on labelled.{column_of(entity)} = {table}.key and labelled.day = {table}.day")
    for one in features.behaviours:
        of = f"{one.name}_of"
        joins.append(f"left join {_recent(one)} as {of} on labelled.user_id = {of}.user_id and labelled.day = {of}.day")
    return f"""
        select labelled.event_id, labelled.event_time, {", ".join(made)}, cast(clicked is not null as float) as label,
            labelled.domain, labelled.day
        from labelled {" ".join(joins)}
        where labelled.day between {first} and {last}
            and (labelled.domain = 'ad' or clicked is not null or hash(labelled.event_id) % 2 = 0)"""


def _counter(feature: Count | Rate) -> str:
    amounts = [f"coalesce({column_of(feature.entity)}_days.{amount}_{days}, 0)" for amount, days in _amounts(feature)]
    if isinstance(feature, Rate):
        clicks, impressions = amounts
        rate = f"({clicks} + {feature.prior * feature.strength}) / ({impressions} + {feature.strength})"
        return f"cast({rate} as float) as {feature.name}"
    return f"least(length(bin({amounts[0]} + 1)), {feature.buckets}) - 1 as {feature.name}"


def _amounts(feature: Count | Rate) -> list[tuple[str, int]]:
    measures = ("clicks", "impressions") if isinstance(feature, Rate) else (feature.measure,)
    return [(f"{feature.domain}_{measure}", feature.days) for measure in measures]


def entities(features: Features) -> Iterable[str]:
    return dict.fromkeys(feature.entity for feature in features.counters)


def column_of(source: str) -> str:
    """The column of `labelled` that holds item.category, say."""
    return source.rpartition(".")[2]
