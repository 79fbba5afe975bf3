"""E-CDCTR (arXiv 2408.16238) on Spark: tri-level asynchronous transfer learning for click-through-rate prediction."""

__version__ = "0.1.0"
