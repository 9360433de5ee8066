"""Speed and growth of Harsanyi interactions beside other implementations, and how true those from samples are."""

from conceptry.evaluation.benchmarks.harsanyi.whole import run

__all__ = ["run"]
