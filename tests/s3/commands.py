"""Every command that neither ingests nor trains on a root that a run has filled, one after the other on one local Spark
session.

    python -m tests.s3.commands ROOT FOLDER OPTION...

plans a day again, shows its metrics, exports one of its models below FOLDER and scores with it, reports, tidies and
forgets a user. The options choose the configuration of all. Prints a line of JSON for each command: its name and exit
code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from ecdctr_spark.cli import main
from ecdctr_spark.session import spark_session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.small import read_rows
from tests.sessions import TINY_TABLES

DAY = "2024-03-05"
ENDED = "ended: "  # what a command's line begins with


def carried_out(command: str, *arguments: str) -> None:
    """Runs a command as the shell would, and prints its exit code."""
    code: object = 0
    try:
        main([command, *arguments])
    except SystemExit as end:
        code = end.code
    print(f"{ENDED}{json.dumps([command, code])}", flush=True)  # noqa: T201


def every_command(root: Root, folder: Root, options: Sequence[str]) -> None:
    session = spark_session("local[2]", "2g", root)  # the commands use it
    for key, value in TINY_TABLES.items():
        session.conf.set(key, value)
    here = [*options, "--set", f"storage.root={root}", "--set", "spark.driver_memory=2g"]
    model = next(row["model_id"] for row in read_rows(root, MODELS) if row["model_id"].startswith(f"actr-{DAY}"))
    (samples,) = (place.at("tables", "samples") for place in root.at("data_set").list())
    carried_out("plan", "--from", DAY, "--to", DAY, *here)
    carried_out("metrics", "--json", *here)
    carried_out("export", "--model", model, "--output", str(folder.at("export")), *here)
    carried_out("score", "--model", model, "--input", str(samples), "--output", str(folder.at("scores")), *here)
    carried_out("report", *here)
    carried_out("tidy", *here)
    carried_out("forget", "--user", "user-3", *here)


if __name__ == "__main__":
    every_command(Root.parse(sys.argv[1]), Root.parse(sys.argv[2]), sys.argv[3:])
