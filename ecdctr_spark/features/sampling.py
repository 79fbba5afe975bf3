"""Which labelled impressions become samples, and their weight in the loss."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import KeepRates, Sampling
from ecdctr_spark.features.columns import day_of

_STEPS = 1 << 32  # resolution of a keep rate


def keep(labelled: DataFrame, sampling: Sampling, timezone: str) -> DataFrame:
    """The rows that are kept, with a float column `weight` = 1 / keep rate of their domain and label.

    The label here is that of the end of the impression's day in `timezone`. A later click changes a sample's label but
    not which samples exist, since models of the days before the click must not depend on it.

    A hash of event_id and seed decides, so an event is always kept or always dropped. With these weights predictions
    stay calibrated (He et al. 2014, section 6.3, corrects them afterwards instead).
    """
    rate = keep_rate(sampling, clicked_that_day(timezone))
    place = F.pmod(F.xxhash64("event_id", F.lit(sampling.seed)), F.lit(_STEPS)) / _STEPS
    return labelled.where(place < rate).select("*", (1 / rate).cast("float").alias("weight"))


def clicked_that_day(timezone: str) -> Column:
    """Whether a labelled row was clicked by the end of its day."""
    return F.coalesce((F.col("label") == 1) & (day_of("click_time", timezone) <= F.col("ds")), F.lit(False))


def keep_rate(sampling: Sampling, clicked: Column) -> Column:
    """The share, 0 to 1, of rows that is kept, by domain and by whether they were clicked that day."""
    return F.when(F.col("domain") == "ad", _rate(sampling.ad, clicked)).otherwise(_rate(sampling.natural, clicked))


def _rate(rates: KeepRates, clicked: Column) -> Column:
    return F.when(clicked, F.lit(rates.positive)).otherwise(F.lit(rates.negative))
