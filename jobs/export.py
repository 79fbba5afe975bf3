"""spark-submit jobs/export.py [arguments]: the arguments of `ecdctr export`."""

import sys

from ecdctr_spark.cli import main

main(["export", *sys.argv[1:]])
