"""The harness of MILAN, and what is drawn of units and their descriptions."""

from conceptry.evaluation.milan.harness import MilanHarness

HARNESS = MilanHarness()
