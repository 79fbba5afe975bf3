"""spark-submit jobs/metrics.py [arguments]: the arguments of `ecdctr metrics`."""

import sys

from ecdctr_spark.cli import main

main(["metrics", *sys.argv[1:]])
