"""Speed of exemplars, descriptions and training of MILAN beside literal implementations."""

from conceptry.evaluation.benchmarks.milan.table import run

__all__ = ["run"]
