"""spark-submit jobs/ingest.py [arguments]: the arguments of `ecdctr ingest`."""

import sys

from ecdctr_spark.cli import main

main(["ingest", *sys.argv[1:]])
