"""The harness of SpLiCE."""

from conceptry.evaluation.splice.harness import SpliceHarness

HARNESS = SpliceHarness()
