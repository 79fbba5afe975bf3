"""spark-submit jobs/build.py [arguments]: the arguments of `ecdctr build`."""

import sys

from ecdctr_spark.cli import main

main(["build", *sys.argv[1:]])
