"""E-CDCTR (arXiv 2408.16238) on Spark: tri-level asynchronous transfer learning for click-through-rate prediction."""

from ecdctr_spark.version import installed_version

__version__ = installed_version()
