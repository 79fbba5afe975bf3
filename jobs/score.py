"""spark-submit jobs/score.py [arguments]: the arguments of `ecdctr score`."""

import sys

from ecdctr_spark.cli import main

main(["score", *sys.argv[1:]])
