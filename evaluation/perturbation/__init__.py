"""The harness of sparse perturbations, and the drawing of probes and counterfactuals."""

from conceptry.evaluation.perturbation.harness import PerturbationHarness

HARNESS = PerturbationHarness()
