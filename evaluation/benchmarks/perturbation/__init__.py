"""Speed and growth of perturbations beside the bare passes and other implementations."""

from conceptry.evaluation.benchmarks.perturbation.table import run

__all__ = ["run"]
