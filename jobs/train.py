"""spark-submit jobs/train.py [arguments]: the arguments of `ecdctr train`."""

import sys

from ecdctr_spark.cli import main

main(["train", *sys.argv[1:]])
