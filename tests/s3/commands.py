"""Every command on one root, one after the other on one Spark session.

    python -m tests.s3.commands OVERLAY ROOT FOLDER

runs a day, asks for its metrics, exports and scores with one of its models below FOLDER, reports, tidies and forgets a
user.
Prints a line of JSON for each command: its name and exit code.
"""

from __future__ import annotations

import json
import sys

from ecdctr_spark.cli import main
from ecdctr_spark.session import spark_session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.small import read_rows
from tests.conftest import TINY_TABLES

DAY = "2024-03-05"
ENDED = "ended: "  # what a command's line begins with
INLINE = ["--set", "training.launcher=inline", "--set", "training.ranks=1", "--set", "spark.driver_memory=2g"]


def carried_out(command: str, *arguments: str) -> None:
    """Runs a command as the shell would, and prints its exit code."""
    code: object = 0
    try:
        main([command, *arguments, "--conf", sys.argv[1], "--set", f"storage.root={sys.argv[2]}", *INLINE])
    except SystemExit as end:
        code = end.code
    print(f"{ENDED}{json.dumps([command, code])}", flush=True)  # noqa: T201


def every_command(root: Root, folder: Root) -> None:
    session = spark_session("local[2]", "2g", root)  # the commands use it
    for key, value in TINY_TABLES.items():
        session.conf.set(key, value)
    carried_out("run", "--from", DAY, "--to", DAY)
    model = next(row["model_id"] for row in read_rows(root, MODELS) if row["model_id"].startswith(f"actr-{DAY}"))
    samples = next(place for place in root.at("data_set").list()).at("tables", "samples")
    carried_out("plan", "--from", DAY, "--to", DAY)
    carried_out("metrics", "--json")
    carried_out("export", "--model", model, "--output", str(folder.at("export")))
    carried_out("score", "--model", model, "--input", str(samples), "--output", str(folder.at("scores")))
    carried_out("report")
    carried_out("tidy")
    carried_out("forget", "--user", "user-3")


if __name__ == "__main__":
    every_command(Root.parse(sys.argv[2]), Root.parse(sys.argv[3]))
