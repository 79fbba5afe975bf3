"""An identity covers what changes an object and nothing else."""

from __future__ import annotations

import pytest

from ecdctr_spark.config import load_config
from ecdctr_spark.methods.identity import identity

FIRST_DAY = "calendar.first_day=2000-05-01"  # later than what the synthetic platform has


def ids(*settings: str) -> tuple[str, str]:
    config = load_config(["synthetic"], [FIRST_DAY, *settings])
    return config.logs_id, config.data_set_id


@pytest.mark.parametrize(
    "setting",
    [
        "source.ad_tab=1", "source.folder=f", "source.impressions=i", "source.format=csv", "synthetic.seed=2",
        "synthetic.users=7", "calendar.first_day=2000-05-02", "calendar.timezone=Asia/Tokyo",
    ],
)  # fmt: skip
def test_other_logs_make_another_data_set(setting: str) -> None:
    (logs, data_set), (other_logs, other_data_set) = ids(), ids(setting)
    assert logs != other_logs and data_set != other_data_set


@pytest.mark.parametrize(
    "setting",
    [
        "labels.attribution_hours=48", "labels.maturity_days=2", "features.freshness=event", "sampling.ad.negative=0.5",
        "samples.files_per_slice=3", "features.availability_minutes=5",
    ],
)  # fmt: skip
def test_a_setting_that_changes_samples_makes_another_data_set_of_the_same_logs(setting: str) -> None:
    (logs, data_set), (other_logs, other_data_set) = ids(), ids(setting)
    assert logs == other_logs and data_set != other_data_set


@pytest.mark.parametrize(
    "setting",
    [
        "storage.root=/elsewhere", "spark.master=local[8]", "training.ranks=8", "training.launcher=spark",
        "training.min_ranks=1", "check.least_rows=5", "evaluation.bootstrap=9", "tracking.experiment=x",
        "methods.ecdctr.levels.tpm.train.epochs=2",
    ],
)  # fmt: skip
def test_where_and_how_it_runs_makes_no_difference(setting: str) -> None:
    assert ids(setting) == ids()


def test_an_identity_depends_on_values_and_not_on_their_order() -> None:
    assert identity(1, a=1, b={"x": 1, "y": 2}) == identity(1, b={"y": 2, "x": 1}, a=1)
    assert identity(1, a=1) != identity(2, a=1)
    assert identity(1, a=[1, 2]) != identity(1, a=[2, 1])
