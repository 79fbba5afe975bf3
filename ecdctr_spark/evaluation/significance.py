"""Whether one method ranks better than another by more than chance: a paired bootstrap over users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.evaluation.metrics import ranking

LEAST_USERS = 20  # drawn again from fewer, they are so often the same that the interval is too narrow


@dataclass(frozen=True)
class Interval:
    """A GAUC difference with its 95 % bootstrap interval, over the `users` that clicked some of their impressions and
    not others. Without such a user the numbers are nan.
    """

    difference: float
    low: float
    high: float
    users: int

    @property
    def tells(self) -> bool:
        """Whether there are enough users for the interval to say something."""
        return self.users >= LEAST_USERS


def gauc_difference(predictions: DataFrame, method: str, baseline: str, resamples: int, seed: int) -> Interval:
    """GAUC of `method` less that of `baseline` on the impressions that both predicted (PREDICTIONS rows), all days
    pooled.

    Users are drawn with replacement `resamples` times (Efron's percentile bootstrap), each with all its impressions and
    both AUCs. One row per user comes to the driver. The same seed gives the same interval.
    """
    users = _users(predictions, method, baseline).toPandas().sort_values("user_id")
    if users.empty:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    weights = users["impressions"].to_numpy(dtype=np.float64)
    weighted = weights * users["difference"].to_numpy(dtype=np.float64)
    chance = np.random.default_rng(seed)
    means = np.empty(resamples)
    for resample in range(resamples):
        drawn = chance.integers(len(users), size=len(users))
        means[resample] = weighted[drawn].sum() / weights[drawn].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(weighted.sum() / weights.sum()), float(low), float(high), len(users))


def _users(predictions: DataFrame, method: str, baseline: str) -> DataFrame:
    """One row per user with both classes: user_id, impressions and the difference of the two AUCs."""
    labelled = predictions.where(F.col("label").isNotNull())
    ours, theirs = (labelled.where(F.col("method") == name) for name in (method, baseline))
    shared = ours.join(theirs, on="event_id", how="left_semi").unionByName(
        theirs.join(ours, on="event_id", how="left_semi")
    )
    signed = F.when(F.col("method") == method, F.col("auc")).otherwise(-F.col("auc"))
    return (
        ranking(shared, ("method", "user_id"))
        .where(F.col("auc").isNotNull())
        .groupBy("user_id")
        .agg(F.max("impressions").alias("impressions"), F.sum(signed).alias("difference"))
    )
