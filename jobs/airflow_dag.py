"""Airflow: one DAG per clock, which submits jobs/run.py to Spark. Copy this file to Airflow's folder of DAGs.

Airflow 3 needs apache-airflow-providers-apache-spark, a connection `spark_default` to the cluster, and a pool of one
slot. All three DAGs share it, so that no two runs write under one root at the same time, not even in a back-fill; month
comes before week before day:

    airflow pools set ecdctr 1 "one run at a time"

A run is for the day before its data interval ends, in the calendar's time zone. `{{ ds }}` would be a day in UTC and,
in some versions, the first of a week or month. A back-fill needs no parameter; this one is of 2024-07-01 to 2024-07-07:

    airflow backfill create --dag-id ecdctr_daily --from-date 2024-07-02 --to-date 2024-07-09

Runs that were missed since ECDCTR_START are caught up with. Every step may be repeated, so retries are safe; a training
resumes from its newest checkpoint.
"""

import datetime as dt
import os
from zoneinfo import ZoneInfo

from airflow import DAG
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

CONF = os.environ.get("ECDCTR_CONF", "/etc/ecdctr/mine.yaml")  # the overlay, where the driver runs
JOB = os.environ.get("ECDCTR_JOB", "/opt/ecdctr/jobs/run.py")
TIMEZONE = os.environ.get("ECDCTR_TIMEZONE", "UTC")  # of the schedules and of calendar.timezone
START = os.environ.get("ECDCTR_START", "2024-01-02")  # the first day on which a run may be due
PACKAGES = os.environ.get("ECDCTR_PACKAGES", "io.delta:delta-spark_2.13:4.0.1")

DAY = f"{{{{ data_interval_end.in_timezone('{TIMEZONE}').subtract(days=1).to_date_string() }}}}"

# By DAG: the clock of the levels that it trains, when, on how many executors of four cores, and for how many hours. The
# weekly one is due on the day after the level's weekday.
DAGS = {
    "ecdctr_monthly": ("month", "0 1 1 * *", 4, 10),
    "ecdctr_weekly": ("week", "0 3 * * TUE", 4, 6),
    "ecdctr_daily": ("day", "0 5 * * *", 2, 3),
}
CORES = 4

for priority, (name, (clock, schedule, executors, hours)) in enumerate(DAGS.items()):
    with DAG(
        dag_id=name,
        schedule=schedule,
        start_date=dt.datetime.fromisoformat(START).replace(tzinfo=ZoneInfo(TIMEZONE)),
        catchup=True,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": dt.timedelta(minutes=15)},
    ) as dag:
        SparkSubmitOperator(
            task_id="run",
            name=name,
            application=JOB,
            application_args=[
                f"--from={DAY}",
                f"--to={DAY}",
                f"--conf={CONF}",
                f"--set=calendar.timezone={TIMEZONE}",
                f"--set=training.clocks=[{clock}]",
                "--set=training.launcher=spark",
                f"--set=training.ranks={executors * CORES}",
            ],
            num_executors=executors,  # on YARN and Kubernetes
            total_executor_cores=executors * CORES,  # on a standalone cluster
            executor_cores=CORES,
            packages=PACKAGES,
            pool="ecdctr",
            priority_weight=len(DAGS) - priority,
            execution_timeout=dt.timedelta(hours=hours),
        )
    globals()[name] = dag
