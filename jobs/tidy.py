"""spark-submit jobs/tidy.py [arguments]: the arguments of `ecdctr tidy`."""

import sys

from ecdctr_spark.cli import main

main(["tidy", *sys.argv[1:]])
