"""spark-submit jobs/report.py [arguments]: the arguments of `ecdctr report`."""

import sys

from ecdctr_spark.cli import main

main(["report", *sys.argv[1:]])
