"""spark-submit jobs/check.py [arguments]: the arguments of `ecdctr check`."""

import sys

from ecdctr_spark.cli import main

main(["check", *sys.argv[1:]])
