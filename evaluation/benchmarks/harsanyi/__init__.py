"""Speed and growth of Harsanyi interactions beside other implementations."""

from conceptry.evaluation.benchmarks.harsanyi.table import run

__all__ = ["run"]
