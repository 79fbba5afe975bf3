"""The packages of the wheel: those of ecdctr_spark/, then conf/ and jobs/ as ecdctr_spark.conf and ecdctr_spark.jobs.

Everything else is in pyproject.toml, whose search for packages cannot reach folders beside the package.
"""

from setuptools import find_packages, setup

BESIDE = {"ecdctr_spark.conf": "conf", "ecdctr_spark.jobs": "jobs"}

setup(packages=[*find_packages(include=["ecdctr_spark*"]), *BESIDE], package_dir=BESIDE)
