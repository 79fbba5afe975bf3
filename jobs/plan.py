"""spark-submit jobs/plan.py [arguments]: the arguments of `ecdctr plan`."""

import sys

from ecdctr_spark.cli import main

main(["plan", *sys.argv[1:]])
