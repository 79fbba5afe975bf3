"""spark-submit jobs/run.py [arguments]: the arguments of `ecdctr run`."""

import sys

from ecdctr_spark.cli import main

main(["run", *sys.argv[1:]])
