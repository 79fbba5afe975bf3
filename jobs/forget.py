"""spark-submit jobs/forget.py [arguments]: the arguments of `ecdctr forget`."""

import sys

from ecdctr_spark.cli import main

main(["forget", *sys.argv[1:]])
